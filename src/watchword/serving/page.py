"""From the settings of a server to those of its approval page."""

from watchword.page.brand import Brand, BrandError
from watchword.page.settings import PageApplication, PageSettings, titles_of
from watchword.serving.settings import Deployment


def page_settings(deployment: Deployment) -> PageSettings:
    """
    Return the settings of the approval page.

    Raises:
        BrandError: The picture went, or is another one than the start looked at.
    """
    table, logo = deployment.page, deployment.logo_file
    try:
        picture = None if logo is None else (logo.name, logo.read_bytes())
    except OSError as error:
        raise BrandError(f"page.logo: {logo}: {error.strerror or error}") from error
    origin = table.origin or ""
    return PageSettings(
        origin=origin,
        openers=tuple(table.openers),
        # Without TLS it is reached on this machine alone; where nobody says, TLS is ended in front.
        secure=not origin.startswith("http://"),
        frame_high_risk=table.frame_high_risk,
        brand=Brand.of(name=table.name, logo=picture, colour=table.colour),
        templates=deployment.templates_folder,
        applications={
            each.id: PageApplication(
                name=each.name or "", openers=None if each.openers is None else tuple(each.openers)
            )
            for each in deployment.applications
        },
        titles=titles_of(deployment.policy.actions or ()),
    )
