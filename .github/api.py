"""All that the workflows ask of GitHub by themselves, with a token.

    python3 -I .github/api.py comment FILE    # puts FILE on the pull request whose gate ran, kept anew
    python3 -I .github/api.py pages           # says whether this repository has a site: output `there`

The pull request is the one that GitHub says has this head now; FILE has no say in it, and a run of an older
head says nothing. It uses the standard library and nothing of this repository.
"""

import json
import os
import sys
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

MARK = "<!-- acestep-bench gate -->\n"  # by which the comment is found again
AUTHOR = "github-actions[bot]"
MOST_CHARS = 65_536  # of a comment
MOST_PAGES = 20  # of a hundred comments each
NO_SITE = (
    "The site is built but not published: this repository has no GitHub Pages. To have it, choose"
    " *GitHub Actions* under Settings, Pages.\n"
)


class Refused(Exception):
    """Something is not as it has to be; nothing is written."""


def main(command: str, *arguments: str) -> int:
    """Run one command; returns the exit code."""
    try:
        {"comment": comment, "pages": pages}[command](*arguments)
    except HTTPError as error:
        print(f"api: GitHub says {error.code} to {error.geturl()}", file=sys.stderr)
    except (Refused, URLError, OSError) as error:
        print(f"api: {error}", file=sys.stderr)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"api: GitHub's answer is none that is known: {error!r:.200}", file=sys.stderr)
    else:
        return 0
    return 1


def comment(file: str) -> None:
    """Write the comment of the pull request, over an earlier one."""
    text, run = MARK + content(Path(file)), event()["workflow_run"]
    number = pull_request(run)
    if number is None:
        print("api: no open pull request has this head; nothing to say")
        return
    earlier = own_comment(number)
    if earlier is None:
        call("POST", f"issues/{number}/comments", {"body": text})
    else:
        call("PATCH", f"issues/comments/{earlier}", {"body": text})
    print(f"api: pull request {number} {'has a comment' if earlier is None else 'has its comment anew'}")


def pages() -> None:
    """Say whether there is a site to publish to."""
    try:
        call("GET", "pages")
        there = True
    except HTTPError as error:
        if error.code != 404:
            raise
        there = False
        print(f"::notice::{NO_SITE}", end="")
        append("GITHUB_STEP_SUMMARY", NO_SITE)
    append("GITHUB_OUTPUT", f"there={json.dumps(there)}\n")


def content(path: Path) -> str:
    """The text of a comment. Raises Refused where it is none."""
    with path.open("rb") as file:
        data = file.read(4 * MOST_CHARS + 1)
    text = data.decode("utf-8", errors="replace")
    if not text.strip() or "\0" in text or len(MARK) + len(text) > MOST_CHARS:
        raise Refused(f"{path.name} is no text of 1 to {MOST_CHARS:,} characters")
    return text


def pull_request(run: dict) -> int | None:
    """Number of the only open pull request whose head is that of `run`; None where there is none any more."""
    if run["head_repository"] is None:  # the fork was deleted meanwhile
        return None
    head = f"{run['head_repository']['owner']['login']}:{run['head_branch']}"
    pulls = call("GET", f"pulls?state=open&per_page=100&head={quote(head, safe='')}")
    numbers = [pull["number"] for pull in pulls if pull["head"]["sha"] == run["head_sha"]]
    if len(numbers) > 1:
        raise Refused(f"{len(numbers)} pull requests have this head, so whose gate it was is not known")
    return int(numbers[0]) if numbers else None


def own_comment(number: int) -> int | None:
    """The comment of an earlier run: one with MARK, and not of somebody who copied it."""
    for page in range(1, MOST_PAGES + 1):
        comments = call("GET", f"issues/{number}/comments?per_page=100&page={page}")
        for one in comments:
            if one["user"] and one["user"]["login"] == AUTHOR and (one["body"] or "").startswith(MARK):
                return int(one["id"])
        if len(comments) < 100:
            break
    return None


def call(method: str, path: str, body: dict | None = None) -> list | dict:
    """The answer of GitHub about this repository. Raises HTTPError, URLError."""
    address = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}"
    request = Request(address, None if body is None else json.dumps(body).encode(), method=method)
    request.add_header("Accept", "application/vnd.github+json")
    request.add_header("X-GitHub-Api-Version", "2022-11-28")
    request.add_unredirected_header("Authorization", f"Bearer {os.environ['TOKEN']}")
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def event() -> dict:
    """What started this workflow, as GitHub tells it."""
    return json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())


def append(variable: str, text: str) -> None:
    """Add to the file that a variable of GitHub's names."""
    with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
