"""Breaks each guard in the code, one at a time, and checks that tests notice: `make guards`.

A guard is a piece of code that keeps a failure from costing anything. A comment above it marks it:

    # guard[False]: messages count as published only if the topic confirms each
    if outcome.failed:
        raise PublishError(…)

The text in brackets breaks the guard: it takes the place of the condition of an `if`, `elif` or `while`, of the
iterable of a `for`, of the exceptions of an `except`, and of the whole of any other statement. A long sentence goes on
in further comment lines.

Without arguments, this script breaks all guards; with arguments, those whose text contains one of them. `--docs` writes
the table in docs/guards.md. Files are put back as they were.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs" / "guards.md"
_MARKED: Final = ("layers", "functions")
_MARK: Final = re.compile(r"^ *# guard\[(?P<broken>.+?)\]: (?P<what>.+)$")
_HEAD: Final = "| --- | --- | --- |\n"
_SECONDS: Final = 60
_PARTS: Final = 4
_ENVIRONMENT: Final = {**os.environ, "PARCELQ_THOROUGH": "1"}
"""Parts that a kind of fault in tests/crash is divided into."""
_GREEN, _RED = 0, 1

_CRASH: Final = "tests/crash/test_crash.py::"
_PIPELINE: Final = f"{_CRASH}test_with_one_bad_line_and_a_fault_at_any_call_the_result_is_exact_and_nothing_is_left"
_LARGE: Final = f"{_CRASH}test_a_large_object_whose_event_comes_twice_has_an_exact_result_with_a_fault_at_any_call"

NOTICED_BY: Final[dict[str, tuple[str, ...]]] = {
    "an entry of a batch counts as done only if the reply confirms it": (
        "tests/functional/test_replies.py::TestBatches",
    ),
    "a reply counts only if it has what it must contain": ("tests/functional/test_replies.py::TestMembers",),
    "a web page with a good status is no reply of SQS": (
        "tests/functional/test_replies.py::test_an_answer_that_is_no_reply_of_sqs_is_an_error",
    ),
    "a conditional write whose reply was lost, and that botocore sent again, is no conflict": (
        "tests/functional/test_odd_replies.py::test_a_conditional_write_counts_if_only_its_reply_was_lost",
    ),
    "JSON of another form is no reply of SQS": (
        "tests/functional/test_odd_replies.py::test_json_of_another_form_is_no_reply_of_sqs",
    ),
    "bytes count as the object's only if the reply has the object's etag": (
        "tests/functional/test_odd_replies.py::test_a_web_page_is_not_taken_for_the_object_of_a_put",
    ),
    "a job whose record cannot be read does not hold up other jobs": (
        "tests/functional/test_job_looks.py::test_a_job_whose_record_cannot_be_read_does_not_hold_up_other_jobs",
    ),
    "an entry that failed by SQS's fault is sent again": (
        "tests/functional/test_publish.py::TestFaults::test_entries_that_failed_by_the_servers_fault_are_sent_again_with_growing_pauses",
    ),
    "a request that is throttled is sent again": (
        "tests/functional/test_publish.py::TestFaults::test_throttling_and_faults_of_whole_requests_are_waited_out",
    ),
    "a message for which SQS refuses a whole request does not fail the others": (
        "tests/functional/test_publish.py::TestBadMessages::test_a_message_for_which_sqs_refuses_a_whole_request_is_found",
    ),
    "a body in S3 is copied when its pointer is published again": (
        "tests/functional/test_overflow.py::TestRenewal::test_a_body_outlives_the_object_of_the_first_message",
    ),
    "a pointer is followed only to what this stack has put into S3": (
        "tests/functional/test_function_processor.py::TestProcessor::test_a_pointer_to_anything_but_what_overflowed_here_is_dead_with_the_reason",
    ),
    "a body that is larger than any entry may be is not read into memory": (
        "tests/functional/test_overflow.py::test_a_body_that_is_larger_than_any_entry_is_not_read_into_memory",
    ),
    "an upload stops before its function's time is up": (
        "tests/functional/test_streams.py::test_a_stream_that_is_handed_on_gives_the_messages_of_one_that_is_not",
    ),
    "what there was no time for is uploaded by another invocation": (
        "tests/functional/test_streams.py::test_a_stream_that_is_handed_on_gives_the_messages_of_one_that_is_not",
    ),
    "a message that SQS refuses to delete is not acknowledged": (
        "tests/functional/test_pull.py::TestAcknowledge::test_acknowledging_returns_the_messages_that_sqs_did_not_delete",
    ),
    "an acknowledgement that failed by SQS's fault is tried again": (
        "tests/functional/test_pull.py::TestAcknowledge::test_only_acknowledgements_that_failed_by_the_fault_of_the_server_are_tried_again",
    ),
    "the deadline of held messages is refreshed while work on them goes on": (
        "tests/functional/test_lease.py::test_a_lease_sets_the_deadline_again_each_time_half_of_it_has_passed",
    ),
    "a topic's dead-letter topic is the one that its RedrivePolicy names": (
        "tests/functional/test_topics.py::TestDeleting::test_the_dead_letter_topic_is_the_one_that_the_redrive_policy_names",
    ),
    "a dead-letter topic that other topics use is not deleted": (
        "tests/functional/test_topics.py::TestDeleting::test_a_dead_letter_topic_that_others_use_stays",
    ),
    "attributes of others give way where a message has no room for all": (
        "tests/functional/test_failures.py::TestHalving::test_the_attributes_of_others_give_way_where_there_is_no_room",
    ),
    "ranges are published again if not all of them were published": (f"{_LARGE}[first entry refused",),
    "a range that failed is delivered again, alone": (
        "tests/functional/test_function_ranges.py::TestRanges::test_a_range_that_fails_is_delivered_again_alone",
    ),
    "if the uploader dies, its task is delivered again soon after the invocation's time is up": (
        "tests/functional/test_function_ranges.py::TestRanges::test_a_range_is_delivered_again_soon_after_it_failed_or_its_uploader_died",
    ),
    "a task that failed is delivered again after seconds, not after its deadline": (
        "tests/functional/test_function_ranges.py::TestRanges::test_a_range_is_delivered_again_soon_after_it_failed_or_its_uploader_died",
    ),
    "a source names one put, by the event's sequencer": (
        "tests/functional/test_function_uploader.py::TestUploader::test_a_second_delivery_of_an_event_makes_the_same_lineages_and_a_second_put_another_source",
    ),
    "only objects of the stack's inbox are uploaded, for any event": (
        "tests/functional/test_function_uploader.py::TestUploader::test_only_objects_of_the_stacks_inbox_are_published_for_any_event",
    ),
    "of several scans that find all ranges scanned, one publishes the tasks": (
        "tests/unit/test_objects.py::TestScans",
    ),
    "a scan that died before it published the tasks publishes them when it is delivered again": (
        "tests/unit/test_objects.py::TestScans",
    ),
    "messages that are not done are reported as failed": (
        "tests/functional/test_function_processor.py::TestProcessor::test_only_a_message_whose_output_is_not_published_is_delivered_again",
    ),
    "with wrong settings messages are delivered again as late as possible": (
        "tests/functional/test_function_processor.py::TestProcessor::test_with_wrong_settings_messages_are_delivered_again_as_late_as_possible",
    ),
    "a message that is not done is delivered again after seconds, not after its deadline": (
        "tests/functional/test_function_processor.py::TestProcessor::test_without_time_messages_are_delivered_again_and_no_step_is_run",
    ),
    "an output that cannot be read fails its message alone": (
        "tests/functional/test_process_in_trouble.py::TestOddOutput::test_an_output_with_too_long_a_lineage_fails_its_message_alone",
    ),
    "a step with a successful run is not broken": (
        "tests/functional/test_stack_jobs.py::test_a_step_is_not_broken_if_a_run_of_another_processor_succeeded_before_a_look",
    ),
    "a message whose parts cannot be read is not done": (
        "tests/functional/test_process_in_trouble.py::TestUncuttable::test_a_message_that_cannot_be_cut_now_is_delivered_again_whole",
    ),
    "if a topic refuses a whole request, none of its messages count as published": (
        "tests/functional/test_process_in_trouble.py::TestPublishingFails::test_messages_that_did_not_run_because_a_topic_is_missing_are_not_done_either",
    ),
    "what a topic lists as failed does not count as published": (
        "tests/functional/test_process_in_trouble.py::TestPublishingFails::test_a_message_of_whose_output_a_part_is_missing_is_not_done",
    ),
    "messages are done only when everything that they led to is confirmed as published": (
        "tests/functional/test_process_in_trouble.py::TestPublishingFails",
        f"{_PIPELINE}[last entry refused",
    ),
    "an output that can never be published is a failed run": (
        "tests/functional/test_process_in_trouble.py::TestOddOutput::test_an_output_that_can_never_be_published_is_a_failed_run",
    ),
    "a worker counts a message as done only if its acknowledgement is confirmed": (
        "tests/functional/test_worker.py::test_a_message_that_the_topic_does_not_delete_counts_as_failed",
    ),
    "a message gets another run after its first failure": (
        "tests/functional/test_failures.py::TestCounting::test_a_message_that_failed_is_published_again_with_its_failures_and_a_delay",
    ),
    "a message that failed for the last time is halved, so that only its bad entries die": (
        "tests/functional/test_failures.py::TestHalving::test_a_message_that_failed_twice_is_split_into_halves_with_one_run_left",
    ),
    "a message carries how many of its runs failed": (
        "tests/functional/test_failures.py::TestCounting::test_a_message_that_failed_is_published_again_with_its_failures_and_a_delay",
    ),
    "the output topic gets a tombstone for a dead letter": (
        "tests/functional/test_failures.py::TestDying::test_a_single_entry_is_a_dead_letter_with_the_reason_and_a_tombstone_with_the_entry",
    ),
    "all runs of a stage agree on one header": ("tests/unit/test_stage_headers.py",),
    "a record is not taken for the header that a step has removed": (
        "tests/functional/test_records.py::TestCsv::test_a_filter_that_drops_the_header_loses_no_record_of_equal_ones",
    ),
    "an output's header is compared before it is taken off": (
        "tests/unit/records/test_headers.py::test_an_output_with_another_header_or_none_loses_nothing_but_is_refused",
        "tests/unit/test_stage_headers.py",
    ),
    "a mark counts only when its time is over": (
        "tests/functional/test_failures.py::TestFunctionsThatDie::test_a_mark_counts_only_when_its_time_is_over",
    ),
    "no message dies of one mark alone": (
        "tests/functional/test_failures.py::TestFunctionsThatDie::test_a_good_entry_survives_a_mark_that_could_not_be_deleted",
        "tests/functional/test_failures.py::TestFunctionsThatDie::test_a_good_entry_on_its_last_run_survives_a_function_that_died_of_something_else",
    ),
    "a mark whose put failed is deleted, as it may still be there": (
        "tests/functional/test_failures.py::TestFunctionsThatDie::test_a_mark_is_deleted_where_only_the_reply_to_its_put_was_lost",
    ),
    "without a store, a message on its last run may kill the worker and runs alone": (
        "tests/unit/test_plan.py::TestReceivesInPlaceOfMarks",
    ),
    "messages that were received most often run first": (
        "tests/unit/test_plan.py::TestPlaces::test_messages_that_were_received_most_often_come_first",
    ),
    "a message whose run killed the function is not run again as it is": (
        "tests/unit/test_plan.py::TestPlaces::test_a_message_that_killed_functions_too_often_is_not_run",
        f"{_CRASH}test_a_line_that_takes_the_function_down_dies_alone",
    ),
    "without a store, only one message that may kill the worker runs at a time": (
        "tests/unit/test_plan.py::TestReceivesInPlaceOfMarks::test_a_message_that_would_be_dead_by_its_receives_is_run_alone",
    ),
    "a message that failed before runs alone": (
        "tests/unit/test_plan.py::TestPlaces::test_a_message_that_failed_before_runs_alone_however_often_it_was_received",
        "tests/unit/test_plan.py::TestPlaces::test_a_message_that_may_have_killed_a_function_runs_alone",
    ),
    "a message that was received before runs under a mark": (
        "tests/unit/test_plan.py::TestPlaces::test_a_message_that_was_only_received_before_runs_like_others_but_watched",
        f"{_CRASH}test_a_line_that_takes_the_function_down_dies_alone",
    ),
    "the same bytes in one invocation are run once": (
        "tests/functional/test_process.py::TestRepeats::test_a_message_that_comes_twice_is_run_once_and_both_are_done",
    ),
    "messages stay locked for as long as the invocation may take": (
        "tests/functional/test_process_in_trouble.py::TestTime::test_messages_are_locked_for_as_long_as_the_invocation_may_take",
    ),
    "where marks cannot be read, messages that were received before are not run": (
        "tests/functional/test_failures.py::TestFunctionsThatDie::test_only_messages_that_were_received_before_wait_where_marks_cannot_be_read",
    ),
    "what is done is acknowledged before a run that may kill the function": (
        "tests/functional/test_failures.py::TestFunctionsThatDie::test_messages_that_are_done_are_acknowledged_before_a_run_that_kills_the_function",
    ),
    "a message that nobody can read is dead, with the reason": (
        "tests/functional/test_process.py::TestUnreadableAndPassingMessages::test_a_message_that_nobody_can_read_is_a_dead_letter_at_once_as_it_came",
    ),
    "a dead letter is acknowledged only when it is published again": (
        "tests/functional/test_redrive.py::TestRedrive::test_a_dead_letter_that_is_refused_stays_and_the_others_go_back",
    ),
    "messages that were received before, or may kill the function, run under a mark": (
        "tests/functional/test_failures.py::TestFunctionsThatDie::test_a_killer_beside_good_messages_is_dead_alone_with_its_reason",
        f"{_CRASH}test_a_line_that_takes_the_function_down_dies_alone",
        "tests/functional/test_failures.py::TestFunctionsThatDie::test_messages_received_before_run_side_by_side_under_one_mark",
    ),
    "a mark is deleted as soon as the step ended, before anything is published": (
        "tests/functional/test_failures.py::TestFunctionsThatDie::test_a_mark_is_gone_before_anything_is_published",
    ),
    "messages that failed together are run alone": (
        "tests/functional/test_process.py::TestRunningTogether::test_messages_that_failed_together_are_each_run_alone_and_only_the_bad_ones_fail",
    ),
    "a run that began late and was cut off says nothing about its messages": (
        "tests/functional/test_process_in_trouble.py::TestTime::test_a_run_that_began_late_and_was_cut_off_is_delivered_again_without_a_failure",
    ),
    "a machine without room for a run says nothing about its messages": (
        "tests/functional/test_process_in_trouble.py::TestNoRoom",
    ),
    "whatever a run does is the failure of that run alone": (
        "tests/functional/test_process_in_trouble.py::TestOddOutput::test_whatever_a_run_does_is_the_failure_of_that_run_alone",
    ),
    "no run begins when there is no time for it": (
        "tests/unit/test_budget.py::test_no_run_begins_when_time_is_up",
        "tests/functional/test_process_in_trouble.py::TestTime::test_a_message_that_there_is_no_time_for_is_delivered_again_without_a_failure",
    ),
    "the digest of a run tells its output from that of other runs": (
        f"{_CRASH}test_of_a_step_that_never_does_the_same_twice_the_result_has_one_run_or_the_other",
    ),
    "the folder of a run is removed however the run ends": (
        "tests/functional/test_run.py::TestCommand::test_files_that_a_step_leaves_in_its_working_directory_are_removed",
    ),
    "a run finds nothing in its folder that another run left there": (
        "tests/functional/test_run.py::TestCommand::test_a_run_finds_nothing_that_another_left",
    ),
    "a run of a kept process finds nothing in its folder that another run left there": (
        "tests/functional/test_warm.py::TestEachRunByItself::test_each_warm_run_has_an_empty_folder_that_is_removed_after_it",
    ),
    "a run that was aborted says nothing about its entries": (
        "tests/functional/test_run_local.py::test_interrupting_ends_a_run_that_takes_long_and_loses_nothing",
    ),
    "an output is a regular file": (
        "tests/functional/test_step_attacks.py::TestOutput::test_an_output_that_is_no_file_fails_the_run",
    ),
    "no step gets the credentials of a function": (
        "tests/functional/test_grants.py::test_a_step_of_a_stack_gets_the_credentials_of_its_role_and_never_those_of_the_function",
    ),
    "credentials are renewed before they expire": (
        "tests/functional/test_grants.py::test_credentials_are_renewed_before_they_expire_and_not_before_they_need_to",
    ),
    "a kept process has the credentials and secrets of now": (
        "tests/functional/test_grants.py::test_a_kept_process_ends_when_what_it_was_granted_is_old",
    ),
    "a step that exits with another code than 0 has failed": (
        "tests/functional/test_run.py::TestFailure::test_any_other_exit_code_than_zero_fails_with_the_end_of_stderr",
    ),
    "an output above the limit fails its run alone": (
        "tests/functional/test_hops.py::test_an_output_above_the_limit_fails_alone_even_after_others",
    ),
    "a step is killed when its time is up": (
        "tests/functional/test_run.py::TestTime::test_a_step_is_killed_when_its_time_is_up",
    ),
    "all processes that a run started end with it": (
        "tests/functional/test_containment.py::test_daemons_that_left_the_session_of_a_step_end_with_it",
    ),
    "messages are acknowledged only after they are stored": (
        "tests/functional/test_collect.py::TestDraining::test_a_store_that_refuses_leaves_messages_unacknowledged",
    ),
    "a message that nobody can read stays on the output topic": (
        "tests/functional/test_collect.py::TestDraining::test_a_message_that_cannot_be_read_stays_on_the_topic",
    ),
    "outputs with another header than those before are not collected": (
        "tests/functional/test_records.py::TestPlainTopics::test_outputs_of_workers_that_disagree_about_the_header_are_not_mixed",
    ),
    "the result of an older put never replaces that of a newer one": (
        "tests/functional/test_collect.py::TestLateAndOlder::test_the_result_of_an_older_put_never_replaces_that_of_a_newer_one",
    ),
    "segments stay until the report of their result is written": (
        "tests/functional/test_collect_writing.py::TestKilled::test_the_next_finisher_completes_what_one_that_was_killed_at_any_call_left",
    ),
    "segments stay as long as some of their entries are dead": (
        "tests/functional/test_collect.py::TestTheDead::test_a_source_with_dead_entries_is_written_without_them_and_its_segments_stay",
    ),
    "report and result follow from one resolution": (
        "tests/functional/test_reports.py::test_a_report_that_comes_late_does_not_replace_one_of_a_newer_result",
    ),
    "a page is written only if nobody else wrote one in the meantime": (
        "tests/functional/test_reports.py::TestPage::test_a_page_or_report_that_comes_late_does_not_replace_that_of_a_newer_result",
    ),
    "a report is written only if nobody else wrote one in the meantime": (
        "tests/functional/test_reports.py::TestPage::test_a_page_or_report_that_comes_late_does_not_replace_that_of_a_newer_result",
    ),
    "notes of an upload go with its segments": (f"{_LARGE}[killed after",),
    "what lies beside the segments of a job is deleted before them": ("tests/unit/test_looks.py",),
    "of several plans for one result, one counts": (
        "tests/functional/test_large_results.py::TestOvertaken::test_of_two_plans_that_are_made_at_once_one_counts",
    ),
    "a plan that was overtaken is dropped with its upload": (
        "tests/functional/test_large_results.py::TestOvertaken::test_an_entry_that_is_redriven_meanwhile_makes_a_new_plan",
    ),
    "a part counts only if it has as many bytes as the plan says": (
        "tests/functional/test_large_results.py::TestParts::test_a_part_with_other_bytes_than_planned_is_written_again",
    ),
    "parts that do not come are asked for again": (
        "tests/functional/test_large_results.py::TestWhatIsLost::test_parts_whose_tasks_are_lost_are_asked_for_again",
    ),
    "a job's record is written only if nobody else wrote it in the meantime": (
        "tests/functional/test_job_looks_at_once.py::TestAtOnce::test_a_record_that_somebody_else_wrote_is_not_overwritten",
    ),
    "a look that was lost is published again": (
        "tests/functional/test_job_looks.py::TestLooks::test_a_look_that_was_lost_is_published_again_by_the_one_before_it",
    ),
    "messages count as published only if the topic confirms each": (
        "tests/functional/test_transfer.py::test_an_entry_too_large_without_a_bucket_fails_and_all_others_are_published",
        "tests/functional/test_job_looks.py::TestLooks::test_a_look_that_is_refused_is_an_error_so_that_the_one_before_it_stays",
        "tests/functional/test_large_results.py::TestWhatIsLost::test_tasks_that_the_topic_refuses_are_an_error",
        "tests/functional/test_function_ranges.py::TestRanges::test_a_message_that_is_no_task_is_delivered_again_if_it_cannot_become_a_dead_letter",
    ),
    "a look is acknowledged only after the next one is published": (
        "tests/functional/test_job_looks.py::TestTheWayOfAJob::test_a_job_is_finished_seconds_after_its_last_message",
    ),
    "messages of a job that was cancelled or stopped are not run": (
        "tests/functional/test_stack_jobs.py::test_a_cancelled_job_runs_nothing_more_reports_its_holes_and_can_be_resumed",
    ),
    "nothing more is uploaded of a job that was cancelled or stopped, or that is whole": (
        "tests/functional/test_stack_jobs.py::test_ranges_of_a_cancelled_job_are_not_uploaded_until_it_is_resumed",
    ),
    "a job that was cancelled or stopped is neither healed nor finished": ("tests/functional/test_job_limits.py",),
    "a step that fails whatever it is given stops its job": (
        "tests/functional/test_stack_jobs.py::test_a_broken_step_stops_its_job_with_the_reason_instead_of_halving_all_of_it",
    ),
    "the record names the next look before that is published": (
        "tests/functional/test_job_looks.py::TestTheWayOfAJob::test_a_job_is_finished_seconds_after_its_last_message",
    ),
    "a large job is read completely before its missing records are published again": (
        "tests/functional/test_job_healing.py::TestHealing::test_a_hole_of_a_large_job_is_published_again",
    ),
    "a result is completed only by the invocation that wrote that the job is finishing": (
        "tests/functional/test_job_looks_at_once.py::TestAtOnce::test_a_result_is_written_only_while_the_record_says_that_the_job_is_finishing",
    ),
    "a job has ended only after EventBridge confirmed the event that says so": (
        "tests/functional/test_replies.py::TestMembers::test_an_event_that_is_not_confirmed_is_an_error",
    ),
    "a job with new messages gets a look": (
        "tests/functional/test_function_looks.py::TestLooks::test_messages_of_a_source_that_nobody_began_get_a_job",
    ),
    "the record of index runs is written only if nobody else wrote it in the meantime": ("tests/unit/test_looks.py",),
    "a segment that is in an index run counts once": ("tests/unit/test_merging.py::TestSegments",),
    "an output counts only if all of its slices are there": ("tests/unit/test_merging.py::TestAnyDelivery",),
    "a result is written to a bucket only if nobody else wrote it in the meantime": (
        "tests/contract/test_store_contract.py::TestUploads::test_an_upload_replaces_only_the_object_that_was_seen",
    ),
    "a bucket replaces an object only in the state that was seen": (
        "tests/contract/test_store_contract.py::test_a_write_that_expects_a_state_is_refused_in_another",
    ),
    "of several who create an object in a bucket, one wins": (
        "tests/contract/test_store_contract.py::test_a_write_that_expects_no_object_finds_one",
    ),
    "a multipart upload that fails is aborted": (
        "tests/functional/test_collect_writing.py::TestParts::test_parts_that_cannot_be_put_leave_no_upload_behind",
    ),
    "an object counts as deleted only if S3 confirms it": (
        "tests/functional/test_replies.py::TestBatches::test_an_object_that_the_reply_does_not_name_is_not_deleted",
    ),
    "a part of an object counts only if it is the part that was asked for": (
        "tests/functional/test_replies.py::TestMembers::test_a_reply_with_another_part_of_the_object_is_an_error",
    ),
    "a conditional write to a folder is refused where the condition does not hold": (
        "tests/contract/test_store_contract.py::test_only_one_of_many_conditional_writes_wins",
    ),
    "a bundle is unpacked only if its digest is the expected one": (
        "tests/unit/test_bundles.py::test_a_bundle_whose_archive_is_damaged_is_refused",
    ),
    "a bundle has no more files than its version says": (
        "tests/unit/test_bundles.py::test_an_archive_with_more_files_than_expected_is_refused",
    ),
    "a bundle unpacks to no more bytes than its version says": (
        "tests/unit/test_bundles.py::test_a_bomb_is_refused_before_it_fills_the_disk",
    ),
    "a bundle writes nothing outside of its folder": (
        "tests/unit/test_bundles.py::test_a_path_that_leaves_the_bundle_is_refused",
    ),
    "a bundle has no links": ("tests/unit/test_bundles.py::test_anything_but_a_regular_file_is_refused",),
    "a bundle whose files were changed is unpacked again": (
        "tests/unit/test_bundles.py::TestCache::test_a_bundle_whose_files_were_changed_is_unpacked_again",
    ),
    "a version is used only if it is the one that its name promises": (
        "tests/unit/test_versions.py::test_a_version_that_was_changed_is_refused_with_a_reason",
    ),
    "of two versions that are put at once, one becomes the current one": (
        "tests/unit/test_versions.py::test_two_that_put_a_version_at_once_do_not_overwrite_each_other",
    ),
    "a source whose event comes twice gets one version": (
        "tests/unit/test_versions.py::test_two_deliveries_at_once_get_one_version",
    ),
    "files that another workflow may have changed are not run": (
        "tests/functional/test_function_workflows.py::test_a_bundle_that_another_workflow_changed_is_not_run",
    ),
    "what follows from a message that may have killed a function is a message of its own": (
        "tests/functional/test_function_workflows.py::test_a_message_that_was_received_before_goes_over_the_topic_between_steps",
    ),
    "what a following step cannot do now comes back on the stage's topic": (
        "tests/unit/test_chain.py::test_messages_that_the_next_step_cannot_take_now_go_to_the_topic",
    ),
    "a workflow that can never be run does not keep its messages waiting": (
        "tests/functional/test_function_workflows.py::test_a_bundle_that_is_damaged_is_never_run",
    ),
}
"""For each guard the tests that fail when it is broken. `[killed before` stands for all parts of that kind of fault."""


@dataclass(frozen=True)
class Guard:
    """A guard in the code.

    Attributes:
        what: what it does, as its mark says.
        path: the file, relative to the repository.
        line: number of the line below the mark, from 1.
        broken: what takes its place.
    """

    what: str
    path: Path
    line: int
    broken: str

    def mutant(self) -> str:
        """The text of the file with the guard broken. Raises ValueError if there is nothing that can be broken."""
        source = (ROOT / self.path).read_text()
        target = _target(_statement(ast.parse(source), self.line))
        if target.end_lineno is None or target.end_col_offset is None:
            raise ValueError(f"{self.path}:{self.line} has no end")
        lines = source.encode().splitlines(keepends=True)  # columns count bytes
        before = b"".join(lines[: target.lineno - 1]) + lines[target.lineno - 1][: target.col_offset]
        after = lines[target.end_lineno - 1][target.end_col_offset :] + b"".join(lines[target.end_lineno :])
        return (before + self.broken.encode() + after).decode()


def guards() -> Iterator[Guard]:
    """Yield all guards that are marked in the code."""
    for root in _MARKED:
        for path in sorted((ROOT / root).rglob("*.py")):
            lines = path.read_text().splitlines()
            for number, text in enumerate(lines):
                if found := _MARK.match(text):
                    rest = [line.strip() for line in takewhile(_is_comment, lines[number + 1 :])]
                    what = " ".join([found["what"], *(line.removeprefix("# ") for line in rest)])
                    yield Guard(what, path.relative_to(ROOT), number + len(rest) + 2, found["broken"])


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("# ")


def _statement(tree: ast.Module, line: int) -> ast.stmt | ast.ExceptHandler:
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.ExceptHandler) and node.lineno == line:
            return node
    raise ValueError(f"no statement begins in line {line}, below a mark")


def _target(node: ast.stmt | ast.ExceptHandler) -> ast.expr | ast.stmt:
    match node:
        case ast.If() | ast.While():
            return node.test
        case ast.For():
            return node.iter
        case ast.ExceptHandler(type=ast.expr() as caught):
            return caught
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Expr() | ast.Return() | ast.Raise():
            return node
    raise ValueError(f"line {node.lineno}, below a mark, is a statement that cannot be broken")


def table() -> str:
    """The rows of docs/guards.md."""
    return "".join(
        f"| {guard.what} | `{guard.path.relative_to(guard.path.parts[0])}` | {', '.join(map(_shown, tests))} |\n"
        for guard in guards()
        if (tests := NOTICED_BY.get(guard.what))
    )


def _shown(test: str) -> str:
    return f"`{test.rpartition('/')[2].replace('.py', '')}{']' * ('[' in test)}`"


def write_docs() -> None:
    """Write the table in docs/guards.md."""
    text = DOCS.read_text()
    DOCS.write_text(text[: text.index(_HEAD) + len(_HEAD)] + table())


def is_noticed(guard: Guard, test: str) -> bool:
    """Break a guard, and return whether a test fails then. Raises SystemExit if it fails anyway."""
    if not _passes(test):
        raise SystemExit(f"{test} fails although no guard is broken, so it can notice nothing")
    path = ROOT / guard.path
    whole = path.read_text()
    path.write_text(guard.mutant())
    try:
        return not _run(test)
    finally:
        path.write_text(whole)


@cache
def _passes(test: str) -> bool:
    """Whether a test passes while no guard is broken."""
    return _run(test)


def _run(test: str) -> bool:
    """Run a test, and return whether it passes. Raises SystemExit if nothing was tested."""
    chosen = [f"{test}-{part}]" for part in range(_PARTS)] if "[" in test else [test]
    pytest = [sys.executable, "-m", "pytest", "-q", "-x", "--timeout", str(_SECONDS), "-p", "no:cacheprovider"]
    ended = subprocess.run([*pytest, *chosen], cwd=ROOT, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
    if ended.returncode not in {_GREEN, _RED}:
        raise SystemExit(f"{test}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return ended.returncode == _GREEN


def main(words: list[str]) -> int:
    """Break guards, and return the exit code: 1 if no test noticed one of them."""
    missed = 0
    for guard in guards():
        if words and not any(word in guard.what for word in words):
            continue
        for test in NOTICED_BY[guard.what]:
            noticed = is_noticed(guard, test)
            missed += not noticed
            print("noticed" if noticed else "NOT NOTICED", guard.what, test, sep=" | ", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    if sys.argv[1:] == ["--docs"]:
        write_docs()
    else:
        sys.exit(main(sys.argv[1:]))
