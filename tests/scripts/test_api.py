"""What the workflows ask of GitHub, of a server that answers as GitHub does."""

import http.server
import json
import subprocess
import sys
import threading

import pytest
from places import ROOT

SCRIPT = ROOT / ".github" / "api.py"
MARK = "<!-- acestep-bench gate -->\n"
HEAD, OLDER = "b" * 40, "a" * 40
REPOSITORY = "/repos/acme/bench/"
BOT = "github-actions[bot]"


class GitHub:
    """Answers by path, and keeps what it was asked: method, path, body, authorization."""

    def __init__(self):
        self.answers, self.asked = {}, []
        github = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                size = int(self.headers["Content-Length"] or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                path = self.path.removeprefix(REPOSITORY)
                github.asked.append((self.command, path, body, self.headers["Authorization"]))
                code, content = github.answers.get(path, (404, {}))
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", content)
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            do_GET = do_POST = do_PATCH = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def written(self):
        return [(method, path, body["body"]) for method, path, body, _ in self.asked if method != "GET"]


@pytest.fixture
def github():
    github = GitHub()
    thread = threading.Thread(target=github.server.serve_forever, args=(0.01,))
    thread.start()
    github.answers[PULLS] = (200, [{"number": 7, "head": {"sha": HEAD}}])
    github.answers["issues/7/comments?per_page=100&page=1"] = (200, [])
    github.answers["issues/7/comments"] = (201, {})
    yield github
    github.server.shutdown()
    thread.join()
    github.server.server_close()


BRANCH = "x&per_page=1#/../../issues/1?$(id)"  # a branch may be called so
PULLS = (
    "pulls?state=open&per_page=100&head=somebody%3Ax%26per_page%3D1%23%2F..%2F..%2Fissues%2F1%3F%24%28id%29"
)


FORK = {"owner": {"login": "somebody"}}


def api(github, tmp_path, *arguments, text="### Gate: same\n", fork=FORK):
    run = {"head_sha": HEAD, "head_branch": BRANCH, "head_repository": fork, "pull_requests": []}
    (tmp_path / "event.json").write_text(json.dumps({"workflow_run": run}))
    (tmp_path / "comment.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    environ = {
        "GITHUB_API_URL": github.address, "GITHUB_REPOSITORY": "acme/bench", "TOKEN": "secret",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"), "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }  # fmt: skip
    command = [sys.executable, "-I", str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path)


def comment(github, tmp_path, **options):
    return api(github, tmp_path, "comment", "comment.md", **options)


def by(login, number, body=f"{MARK}of an earlier run"):
    return {"id": number, "body": body, "user": {"login": login}}


def test_the_first_run_writes_a_comment(github, tmp_path):
    done = comment(github, tmp_path)
    assert done.returncode == 0, done.stderr
    assert github.written == [("POST", "issues/7/comments", f"{MARK}### Gate: same\n")]
    assert {authorization for *_, authorization in github.asked} == {"Bearer secret"}
    assert "secret" not in done.stdout + done.stderr


def test_the_next_one_writes_over_it_and_over_no_one_elses(github, tmp_path):
    full = [by("mallory", 1), {"id": 2, "body": MARK, "user": None}, by(BOT, 3, "something else")] + [
        by("eve", number) for number in range(10, 107)
    ]
    github.answers["issues/7/comments?per_page=100&page=1"] = (200, full)
    github.answers["issues/7/comments?per_page=100&page=2"] = (200, [by("eve", 8), by(BOT, 9)])
    github.answers["issues/comments/9"] = (200, {})
    assert comment(github, tmp_path).returncode == 0
    assert [written[:2] for written in github.written] == [("PATCH", "issues/comments/9")]


def test_a_run_of_an_older_head_says_nothing(github, tmp_path):
    github.answers[PULLS] = (200, [{"number": 7, "head": {"sha": OLDER}}])
    done = comment(github, tmp_path)
    assert (done.returncode, github.written) == (0, [])
    assert "no open pull request has this head" in done.stdout


def test_a_fork_that_was_deleted_has_no_pull_request(github, tmp_path):
    done = comment(github, tmp_path, fork=None)
    assert (done.returncode, github.asked) == (0, [])


@pytest.mark.parametrize(
    "answer", [{}, None, [None], [{"number": 7}], [{"number": "x", "head": {"sha": HEAD}}]]
)
def test_an_answer_that_is_unknown_is_one_line(github, tmp_path, answer):
    github.answers[PULLS] = (200, answer)
    done = comment(github, tmp_path)
    assert github.written == [] and done.stderr.count("\n") == done.returncode
    assert done.returncode == (answer != {}) and "Traceback" not in done.stderr


def test_a_comment_without_a_text_is_not_ours(github, tmp_path):
    github.answers["issues/7/comments?per_page=100&page=1"] = (200, [by(BOT, 3, None)])
    assert comment(github, tmp_path).returncode == 0
    assert [written[0] for written in github.written] == ["POST"]


def test_two_pull_requests_of_one_head_are_not_guessed_at(github, tmp_path):
    github.answers[PULLS] = (200, [{"number": n, "head": {"sha": HEAD}} for n in (7, 8)])
    done = comment(github, tmp_path)
    assert (done.returncode, github.written) == (1, [])
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    ["", " \n", "x" * 65_536, "a\0b", b"\xff" * (5 * 65_536)],
    ids=["empty", "blank", "long", "nul", "huge"],
)
def test_what_is_no_comment_is_not_written(github, tmp_path, text):
    done = comment(github, tmp_path, text=text)
    assert (done.returncode, github.written) == (1, [])
    assert done.stderr.startswith("api: comment.md is no text") and done.stderr.count("\n") == 1


def test_the_token_goes_nowhere_else(github, tmp_path):
    other = GitHub()
    thread = threading.Thread(target=other.server.serve_forever, args=(0.01,))
    thread.start()
    github.answers[PULLS] = (302, f"{other.address}/pulls")
    other.answers["/pulls"] = (200, [])
    comment(github, tmp_path)
    other.server.shutdown()
    thread.join()
    other.server.server_close()
    assert [authorization for *_, authorization in other.asked] == [None]


@pytest.mark.parametrize(("code", "there"), [(200, "true"), (404, "false")])
def test_a_fork_without_a_site_is_told_so_and_stays_green(github, tmp_path, code, there):
    github.answers["pages"] = (code, {})
    done = api(github, tmp_path, "pages")
    assert (done.returncode, (tmp_path / "output").read_text()) == (0, f"there={there}\n")
    assert (tmp_path / "summary").exists() == (code == 404)
    assert ("::notice::" in done.stdout) == (code == 404)


@pytest.mark.parametrize("command", [("pages",), ("comment", "comment.md")], ids=lambda command: command[0])
def test_what_github_refuses_is_one_line(github, tmp_path, command):
    github.answers |= {"pages": (403, {}), PULLS: (403, {})}
    done = api(github, tmp_path, *command)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "403" in done.stderr and not (tmp_path / "output").exists()
