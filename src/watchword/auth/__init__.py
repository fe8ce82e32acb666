"""Whose an access token is: ``Authenticator``s for issuers, introspection, static tokens and gateways."""
