"""`parcelq topics`: list, create, show, count, delete and clear topics."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Final

import typer
from parcelq.amounts import amount
from parcelq.errors import TopicNotFoundError
from parcelq.limits import COUNT_SETTLES_SECONDS
from parcelq.names import check_topic, dead_letter, is_url, topic_of_url

from parcelq_cli import clients
from parcelq_cli.dead import redrive
from parcelq_cli.options import Attributes, Topic, WrongUsageError, Yes, attributes_of
from parcelq_cli.output import Output, fields, with_output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from parcelq.topics.admin import Topics

_COUNTS: Final = {
    "available": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}

app = typer.Typer(
    no_args_is_help=True,
    help="List, create, show, count, delete, clear and redrive topics.",
    epilog="Example: parcelq topics create molecules",
)


@app.command("list", epilog="Example: parcelq topics list mol")
@with_output
def list_(
    out: Output,
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="The beginning of the names.", show_default="all topics")
    ] = "",
    urls: Annotated[bool, typer.Option("--urls", help="Print URLs instead of names.")] = False,
) -> None:
    """List topics."""
    found = sorted(clients.topics().urls(prefix)) if urls else clients.topics().names(prefix)
    out.result({"topics": found}, "\n".join(found) if found else b"")


@app.command(epilog="Example: parcelq topics create molecules --max-receive-count 3")
@with_output
def create(
    out: Output,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the topic.", show_default=False)],
    max_receive_count: Annotated[
        int, typer.Option(min=1, help="How often a message is delivered before it goes to the dead-letter topic.")
    ] = 2,
    attribute: Attributes = None,
    yes: Yes = False,
) -> None:
    """Create a topic and its dead-letter topic.

    Existing topics of these names are deleted and created again. Attributes are those of SQS, such as
    VisibilityTimeout=300. SQS refuses a deleted name for 60 seconds; this command waits that long.
    """
    attributes = attributes_of(attribute)
    check_topic(name)
    topics = clients.topics()
    out.confirm(_counts(topics, [name, dead_letter(name)]), yes)

    def wait(refused: str, seconds: float) -> None:
        out.note(
            f"waiting up to {seconds:.0f} seconds, because SQS refuses the name {refused!r} just after its deletion"
        )

    url = topics.create(name, max_receive_count, attributes, wait)
    out.result({"topic": name, "url": url, "dead_letter": dead_letter(name)}, url)


@app.command(epilog="Example: parcelq topics show molecules")
@with_output
def show(out: Output, topic: Topic) -> None:
    """Show a topic: its URL, attributes and counts."""
    topics = clients.topics()
    url = topics.url(topic)
    attributes = topics.attributes(url)
    counts = {name: int(attributes.pop(attribute, 0)) for name, attribute in _COUNTS.items()}
    name = topic_of_url(url)
    about = {"topic": name, "url": url}
    shown = {name.replace("_", " "): f"about {count}" for name, count in counts.items()}
    document = {**about, "approximate_counts": counts, "attributes": attributes}
    out.result(document, fields({**about, **shown, **dict(sorted(attributes.items()))}))


@app.command(epilog="Example: parcelq topics count molecules")
@with_output
def count(out: Output, topic: Topic) -> None:
    """Print approximately how many messages can be pulled now.

    The count lags about 60 seconds behind the last send, and SQS does not guarantee that it is exact.
    """
    messages = clients.topics().count(topic)
    text = (
        f"about {amount(messages, 'message')}: the count is approximate and lags {COUNT_SETTLES_SECONDS} seconds behind"
    )
    out.result({"topic": _name(topic), "approximate_count": messages}, text)


@app.command(epilog="Example: parcelq topics delete molecules")
@with_output
def delete(out: Output, topic: Topic, yes: Yes = False) -> None:
    """Delete a topic and its dead-letter topic.

    All messages of the two topics are deleted too. The dead-letter topic stays if other topics use it, or if it belongs
    to another account.
    """
    topics = clients.topics()
    out.confirm(_counts(topics, topics.deleted_with(topic)), yes)
    _show_deleted(out, topics.delete(topic))


@app.command(epilog="Example: parcelq topics clear test- --yes")
@with_output
def clear(
    out: Output,
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="The beginning of the names.", show_default=False)
    ] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Delete all topics of the account and region, instead of giving a prefix.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Delete all topics whose names begin with a prefix.

    Dead-letter topics with such names and all messages are deleted too.
    """
    if bool(prefix) == everything:
        raise WrongUsageError("give either a PREFIX or --all")
    topics = clients.topics()
    if not yes:
        out.confirm(_counts(topics, topics.names(prefix)), yes)
    _show_deleted(out, topics.clear(prefix, everything=everything))


app.command(epilog="Example: parcelq topics redrive molecules")(redrive)


def _show_deleted(out: Output, names: list[str]) -> None:
    out.result({"deleted": names}, "\n".join(f"deleted {name}" for name in names) if names else b"")
    if not names:
        out.note("there is no such topic, so nothing was deleted")


def _name(topic: str) -> str:
    return topic_of_url(topic) if is_url(topic) else topic


def _counts(topics: Topics, names: Iterable[str]) -> dict[str, str]:
    """Return a dict from the names of those topics that exist, in order, to their approximate numbers of messages."""
    from parcelq.aws.parallel import in_flight

    def counted(name: str) -> list[tuple[str, str]]:
        with suppress(TopicNotFoundError):
            return [(_name(name), f"about {amount(topics.count(name), 'message')}")]
        return []

    return dict(sorted(chain.from_iterable(in_flight(counted, names))))
