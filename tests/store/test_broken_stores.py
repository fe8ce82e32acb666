"""The contract, tried on stores that are broken on purpose: it must fail on each of them."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

import pytest

from tests.store import broken, test_contract
from tests.store.support import Stores, kept
from watchword.store.memory import MemoryStore

CONTRACT: dict[str, Callable[[Stores], Awaitable[None]]] = {
    name.removeprefix("test_"): test
    for name, test in inspect.getmembers(test_contract, inspect.iscoroutinefunction)
    if name.startswith("test_")
}

CAUGHT_BY: dict[type[MemoryStore], str] = {
    broken.ComparesNoToken: "a_token_that_moved_on_is_not_overwritten",
    broken.ComparesNoRevokedToken: "a_revoked_token_that_moved_on_is_not_overwritten",
    broken.ComparesNoUser: "a_user_that_moved_on_is_not_overwritten",
    broken.ComparesNothingThatWasSeen: "what_rests_on_a_user_that_moved_on_is_not_stored",
    broken.ComparesNoDestination: "a_destination_that_moved_on_is_not_overwritten",
    broken.ComparesNoApplication: "an_application_that_moved_on_is_not_overwritten",
    broken.ComparesNoOwner: "one_of_many_users_who_claim_the_same_at_once_gets_it",
    broken.ComparesTheFirstOwnerOnly: "an_owner_that_moved_on_is_not_overwritten",
    broken.ComparesNothingThatIsNew: "a_record_that_is_not_stored_can_only_be_begun",
    broken.TakesWhateverIsNewer: "a_token_that_moved_on_is_not_overwritten",
    broken.ComparesBeforeItWaits: "one_of_many_concurrent_spendings_wins",
    broken.WritesWhateverFits: "several_records_are_stored_together_or_not_at_all",
    broken.ForgetsRevokedTokens: "several_records_are_stored_together_or_not_at_all",
    broken.ForgetsApplications: "an_application_comes_back_as_it_was_stored",
    broken.KeepsTheFirstOwnerOnly: "an_owner_comes_back_as_it_was_stored",
    broken.LetsGoOfWhatNobodyOwns: "what_was_given_back_can_be_taken_by_another",
    broken.TellsThatItWorkedWhenItDidNot: "fifty_wrong_answers_at_once_spend_no_more_than_the_limit",
    broken.RefusesWhileAnotherIsUnderWay: "changes_of_different_records_do_not_hinder_each_other",
    broken.DropsWhatWaitsWhenItCloses: "closing_finishes_what_was_accepted",
    broken.StaysBrokenAfterACancelledCaller: "a_caller_that_goes_away_hinders_nobody",
    broken.ForgetsWhatItHeldWhenItCloses: "reopening_loses_nothing",
    broken.ForgetsOwnersWhenItCloses: "reopening_loses_nothing",
    broken.ForgetsEventsWhenItCloses: "reopening_loses_nothing",
    broken.ForgetsHowOftenACodeWasWrong: "a_token_comes_back_as_it_was_stored_in_every_state",
    broken.ForgetsStreaks: "a_user_comes_back_as_it_was_stored",
    broken.RemembersOneSend: "a_destination_comes_back_as_it_was_stored",
    broken.TurnsKeysAround: "an_application_comes_back_as_it_was_stored",
    broken.FoldsNamesOfApplications: "applications_whose_names_only_look_alike_are_different_ones",
    broken.FindsWhatIsNotThere: "what_was_never_stored_is_not_found",
    broken.ReadsTheFirstVersionOnly: "a_change_replaces_what_it_was_made_from",
    broken.KeepsEventsOfRefusedChanges: "a_refused_change_leaves_no_event",
    broken.KeepsOneEventOfAChange: "events_come_back_as_they_were_stored",
    broken.KeepsNoEventWithoutARecord: "a_change_of_events_alone_is_always_stored",
    broken.TurnsEventsAround: "events_stand_in_the_order_of_their_changes",
    broken.KnowsNoEventWithoutAUser: "events_come_back_as_they_were_stored",
    broken.ForgetsWhoseEventItWas: "events_come_back_as_they_were_stored",
    broken.RepeatsTheLastEvent: "events_are_read_page_by_page",
    broken.NumbersEventsAnewOnEachPage: "events_are_read_page_by_page",
    broken.ReadsUsersAsTheyCame: "users_are_read_page_by_page",
    broken.ReadsTheLastUserAgain: "users_are_read_page_by_page",
    broken.ForgetsAMomentTooMuch: "old_events_are_forgotten_and_the_others_keep_their_numbers",
    broken.ForgetsWhateverIsOld: "old_events_are_forgotten_and_the_others_keep_their_numbers",
    broken.ForgetsWithoutLimit: "old_events_are_forgotten_and_the_others_keep_their_numbers",
    broken.NumbersEventsAnewOnceSomeAreForgotten: (
        "old_events_are_forgotten_and_the_others_keep_their_numbers"
    ),
    broken.AnswersThatItWorksWithAnEvent: "a_store_that_works_answers_and_changes_nothing",
    broken.SweepsAtExpiry: "a_sweep_takes_what_is_over_since_a_day",
    broken.SweepsAMomentTooEarly: "a_sweep_takes_what_is_over_since_a_day",
    broken.SweepsAMomentTooLate: "a_sweep_takes_what_is_over_since_a_day",
    broken.SweepsWithoutLimit: "a_sweep_takes_no_more_than_it_may",
    broken.SweepsByTheFirstSend: "a_sweep_takes_what_is_over_since_a_day",
    broken.SweepsUsers: "a_sweep_takes_what_is_over_since_a_day",
    broken.SweepsWhatNobodyOwns: "a_sweep_takes_what_is_over_since_a_day",
    broken.RemembersVersionsOfWhatItSwept: "a_token_that_was_swept_is_unknown_and_can_be_stored_anew",
}


@pytest.mark.parametrize(("kind", "name"), CAUGHT_BY.items(), ids=[kind.__name__ for kind in CAUGHT_BY])
async def test_the_contract_catches(kind: type[MemoryStore], name: str) -> None:
    store = kind()
    with pytest.raises(AssertionError):
        await CONTRACT[name](Stores(kept(store)))


async def _fails(test: Callable[[Stores], Awaitable[None]], kind: type[MemoryStore]) -> bool:
    store = kind()
    try:
        # A store that tells lies can keep a caller trying for ever: that is a failure too.
        async with asyncio.timeout(2):
            await test(Stores(kept(store)))
    except (AssertionError, TimeoutError):
        return True
    return False


@pytest.mark.parametrize("name", CONTRACT)
async def test_every_test_of_the_contract_can_fail(name: str) -> None:
    for kind in CAUGHT_BY:
        if await _fails(CONTRACT[name], kind):
            return
    pytest.fail("no broken store fails it")


def test_every_broken_store_is_tried() -> None:
    kinds = {
        kind
        for _, kind in inspect.getmembers(broken, inspect.isclass)
        if issubclass(kind, MemoryStore) and kind is not MemoryStore
    }
    assert kinds == set(CAUGHT_BY)
