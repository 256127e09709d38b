"""The process tree: order, readiness, restarts, and above all that nothing of it is left, however it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import ports, processes
from local.postgres import EmbeddedPostgres
from local.processes import Identity
from local.tree import (
    ChildFailed,
    ChildSpec,
    Event,
    ProcessTree,
    Restart,
    RestartLimits,
    TreeBusy,
    What,
    answers,
    listens,
)

ROOT = Path(__file__).resolve().parents[2]
SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(120)"]
STUBBORN = [
    sys.executable,
    "-S",
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(120)",
]
QUICK = RestartLimits(most=3, window_seconds=60, first_wait_seconds=0.05, longest_wait_seconds=0.1)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def tree(state_dir: Path, events: list[Event]) -> Iterator[ProcessTree]:
    with ProcessTree(state_dir, on_event=events.append) as made:
        yield made


def identity(pid: int) -> Identity:
    found = processes.identify(pid)
    assert found is not None
    return found


def gone(*who: Identity, within_seconds: float = 8) -> bool:
    return processes.wait_until(lambda: not any(processes.is_live(process) for process in who), within_seconds)


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


# --- one child --------------------------------------------------------------------------------------------------------


def test_children_start_when_ready_and_stop_in_reverse_order(tree: ProcessTree, events: list[Event]) -> None:
    port = ports.any_free()
    serve = f"import http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
    tree.start(ChildSpec("first", python(serve), ready=answers(f"http://127.0.0.1:{port}/")))
    assert listens(port)()
    tree.start(ChildSpec("second", SLEEP))
    tree.start(ChildSpec("third", SLEEP))
    assert tree.names == ["first", "second", "third"]
    everyone = [tree.process(name) for name in tree.names]
    tree.stop_all()
    assert [event.name for event in events if event.what is What.STARTED] == ["first", "second", "third"]
    assert [event.name for event in events if event.what is What.STOPPED] == ["third", "second", "first"]
    assert not any(process is not None and processes.is_live(process) for process in everyone)
    assert ports.is_free(port)


def test_output_and_environment_go_where_they_should(tree: ProcessTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "from us")
    code = "import os, time; print(os.environ['GIVEN'], os.environ['INHERITED'], os.getcwd()); time.sleep(60)"
    tree.start(
        ChildSpec(
            "speaker",
            python(code),
            env={"GIVEN": "to it"},
            cwd=Path("/"),
            ready=lambda: "to it from us /" in tree.log_tail("speaker"),
        )
    )
    assert tree.log_path("speaker").read_text() == "to it from us /\n"


def test_a_child_that_ends_before_it_is_ready_shows_the_end_of_its_log(tree: ProcessTree) -> None:
    with pytest.raises(ChildFailed, match=r"early ended before it was ready(.|\n)*the reason"):
        tree.start(ChildSpec("early", python("raise SystemExit('the reason')"), ready=lambda: False))
    assert tree.names == []


def test_a_child_that_stays_unready_is_stopped(tree: ProcessTree, state_dir: Path) -> None:
    code = "import os, time; print('I am', os.getpid()); time.sleep(60)"
    port = ports.any_free()
    with pytest.raises(ChildFailed, match=r"slow was not ready after 0.5 s(.|\n)*I am"):
        tree.start(ChildSpec("slow", python(code), ready=listens(port), ready_timeout_seconds=0.5))
    pid = int((state_dir / "logs" / "slow.log").read_text().split()[-1])
    assert processes.identify(pid) is None


def test_a_command_that_does_not_exist_is_an_error_and_no_child(tree: ProcessTree) -> None:
    with pytest.raises(FileNotFoundError):
        tree.start(ChildSpec("nothing", ["/no/such/program"]))
    assert tree.names == []


def test_a_deaf_child_is_killed_after_its_time(tree: ProcessTree) -> None:
    tree.start(ChildSpec("deaf", STUBBORN, stop_timeout_seconds=0.3, ready=lambda: "deaf" in tree.log_tail("deaf")))
    process = tree.process("deaf")
    assert process is not None
    before = time.monotonic()
    tree.stop("deaf")
    assert 0.3 <= time.monotonic() - before < 5
    assert not processes.is_live(process)
    tree.stop("deaf")


def test_grandchildren_go_with_their_parent_and_may_say_goodbye(tree: ProcessTree) -> None:
    polite = (
        "import signal, sys, time\n"
        "def bye(*_): time.sleep(0.3); print('goodbye', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, bye); print('here', flush=True); time.sleep(60)\n"
    )
    parent = f"import subprocess; subprocess.run({python(polite)!r})"
    tree.start(ChildSpec("family", python(parent), ready=lambda: "here" in tree.log_tail("family")))
    tree.stop("family")
    assert tree.log_tail("family").splitlines() == ["here", "goodbye"]


def test_names_are_unique_and_cannot_leave_the_log_directory(tree: ProcessTree) -> None:
    tree.start(ChildSpec("one", SLEEP))
    with pytest.raises(ValueError, match="already"):
        tree.start(ChildSpec("one", SLEEP))
    for name in ("", "../one", ".hidden"):
        with pytest.raises(ValueError, match="not usable"):
            tree.start(ChildSpec(name, SLEEP))
    with pytest.raises(KeyError, match="there are: one"):
        tree.kill("two")


# --- crashes ----------------------------------------------------------------------------------------------------------


def test_a_killed_child_comes_back_as_the_policy_says(tree: ProcessTree, events: list[Event]) -> None:
    first = identity(tree.start(ChildSpec("worker", SLEEP, restart=Restart.ON_CRASH, limits=QUICK)))
    tree.kill("worker")
    assert not processes.is_live(first)
    assert processes.wait_until(lambda: tree.is_running("worker"), 5)
    assert tree.process("worker") != first
    assert processes.wait_until(lambda: [event.what for event in events][-1] is What.RESTARTED, 5)
    assert Event("worker", What.EXITED, "killed by SIGKILL") in events
    assert tree.wait(0.01) is None


def test_without_a_policy_a_crash_is_reported_and_ends_the_wait(tree: ProcessTree) -> None:
    tree.start(ChildSpec("worker", SLEEP))
    tree.kill("worker")
    event = tree.wait(5)
    assert event is not None
    assert (event.name, event.what) == ("worker", What.GAVE_UP)
    assert not tree.is_running("worker")
    tree.restart("worker")
    assert tree.is_running("worker")
    assert tree.wait(0.01) is None


def test_a_child_that_crashes_again_and_again_is_given_up_with_its_log(tree: ProcessTree, events: list[Event]) -> None:
    code = "import time; time.sleep(0.1); raise SystemExit('no luck')"
    tree.start(ChildSpec("unlucky", python(code), restart=Restart.ON_CRASH, limits=QUICK))
    event = tree.wait(20)
    assert event is not None
    assert event.what is What.GAVE_UP
    assert "exit code 1" in event.detail
    assert "no luck" in event.detail
    assert sum(event.what is What.RESTARTED for event in events) == QUICK.most


def test_stopping_while_it_waits_to_restart_leaves_nothing(tree: ProcessTree) -> None:
    slow = RestartLimits(most=3, first_wait_seconds=30, longest_wait_seconds=30)
    tree.start(ChildSpec("worker", SLEEP, restart=Restart.ON_CRASH, limits=slow))
    tree.kill("worker")
    before = time.monotonic()
    tree.stop("worker")
    assert time.monotonic() - before < 5
    assert not tree.is_running("worker")


def test_a_clean_end_is_not_a_crash(tree: ProcessTree, events: list[Event]) -> None:
    tree.start(ChildSpec("done", python("import time; time.sleep(0.2)"), restart=Restart.ON_CRASH, limits=QUICK))
    event = tree.wait(5)
    assert event is not None
    assert "exit code 0" in event.detail
    assert all(event.what is not What.RESTARTED for event in events)


def test_what_a_crashed_child_left_in_its_group_is_ended_before_the_restart(tree: ProcessTree, state_dir: Path) -> None:
    note = state_dir / "grandchild"
    code = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen({SLEEP!r})\n"
        f"open({str(note)!r}, 'w').write(str(child.pid)); os.kill(os.getpid(), 9)\n"
    )
    with pytest.raises(ChildFailed):
        tree.start(ChildSpec("careless", python(code), ready=lambda: False))
    assert processes.identify(int(note.read_text())) is None


# --- a service --------------------------------------------------------------------------------------------------------


def test_postgres_as_part_of_the_tree_is_restarted_on_its_address_and_stopped(
    tree: ProcessTree, state_dir: Path, events: list[Event]
) -> None:
    postgres = EmbeddedPostgres(state_dir)
    url = tree.start_service("postgres", postgres)
    first = tree.process("postgres")
    tree.kill("postgres")
    assert processes.wait_until(postgres.is_alive, 15)
    assert postgres.url == url
    assert tree.process("postgres") != first
    tree.restart("postgres")
    assert postgres.is_alive()
    tree.stop_all()
    assert postgres.process is None
    assert not any("@" in event.detail for event in events), "the password is in an event"


# --- the end of the parent --------------------------------------------------------------------------------------------

PARENT = """
import json, os, sys, threading, time
from pathlib import Path
from local.postgres import EmbeddedPostgres
from local.tree import ChildSpec, ProcessTree

state_dir, deaf = Path(sys.argv[1]), json.loads(sys.argv[2])
escaping = [sys.executable, "-S", "-c", "import subprocess, sys, time\\n"
    "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(120)'], start_new_session=True)\\n"
    "print(child.pid, flush=True); time.sleep(120)"]
with ProcessTree(state_dir, grace_seconds=1.0) as tree:
    if "postgres" in sys.argv:
        tree.start_service("postgres", EmbeddedPostgres(state_dir))
    thread = threading.Thread(target=lambda: tree.start(ChildSpec("escaping", escaping)))
    thread.start(); thread.join()  # what started a child may end long before it
    tree.start(ChildSpec("deaf", deaf, ready=lambda: "deaf" in tree.log_tail("deaf"), stop_timeout_seconds=60))
    while not tree.log_path("escaping").read_text().strip():
        time.sleep(0.02)
    pids = [tree.process(name).pid for name in tree.names]
    pids.append(int(tree.log_path("escaping").read_text()))
    print(json.dumps(pids), flush=True)
    if "--fork" in sys.argv and os.fork() == 0:
        time.sleep(15)
        os._exit(0)
    tree.wait()
"""


def start_parent(state_dir: Path, *options: str) -> tuple[subprocess.Popen[str], list[Identity]]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, state_dir, json.dumps(STUBBORN), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    return parent, [identity(pid) for pid in json.loads(parent.stdout.readline())]


def end_parent(parent: subprocess.Popen[str]) -> None:
    if parent.poll() is None:
        os.killpg(parent.pid, signal.SIGKILL)
    parent.communicate()


def test_kill_9_of_the_parent_ends_every_child_postgres_too_and_the_next_run_waits_for_that(state_dir: Path) -> None:
    parent, children = start_parent(state_dir, "postgres")
    try:
        assert len(children) == 4
        os.kill(parent.pid, signal.SIGKILL)
        with ProcessTree(state_dir) as successor:
            successor.start(ChildSpec("next", SLEEP))
            expected_gone = children if processes.HAS_PROC else children[:-1]
            assert not any(processes.is_live(child) for child in expected_gone)
    finally:
        end_parent(parent)


@pytest.mark.skipif(not processes.HAS_PROC, reason="the stray is found by its environment")
def test_a_fork_that_holds_the_pipe_open_does_not_keep_the_children_alive(state_dir: Path) -> None:
    parent, children = start_parent(state_dir, "--fork")
    try:
        os.kill(parent.pid, signal.SIGKILL)
        assert gone(*children)
    finally:
        parent.kill()
        parent.wait()
        with_pipe = processes.live_in_group(parent.pid)
        for pid in with_pipe:
            os.kill(pid, signal.SIGKILL)
        parent.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_parent_ends_every_child_and_a_second_one_hastens_it(
    state_dir: Path, number: signal.Signals
) -> None:
    parent, children = start_parent(state_dir)
    try:
        os.killpg(parent.pid, number)  # as a terminal does: to the whole foreground group
        deaf = children[1]
        assert not gone(deaf, within_seconds=0.5)  # it ignores SIGTERM and has 60 s
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.wait(10) == (-signal.SIGINT if number == signal.SIGINT else 128 + number)
        expected_gone = children if processes.HAS_PROC else children[:-1]
        assert not any(processes.is_live(child) for child in expected_gone)
    finally:
        end_parent(parent)


def test_an_exception_in_the_block_ends_every_child(state_dir: Path) -> None:
    started: list[Identity] = []

    def fail() -> None:
        with ProcessTree(state_dir) as tree:
            started.append(identity(tree.start(ChildSpec("one", SLEEP))))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not processes.is_live(started[0])


def test_a_second_tree_in_the_same_place_is_refused(tree: ProcessTree, state_dir: Path) -> None:
    tree.start(ChildSpec("one", SLEEP))
    second = ProcessTree(state_dir)
    with pytest.raises(TreeBusy, match=f"by process {os.getpid()} already"):
        second.start(ChildSpec("two", SLEEP))
    second.stop_all()
    assert tree.is_running("one")


def test_a_guard_that_was_killed_is_replaced_and_knows_everything(state_dir: Path) -> None:
    """The parent loses its guard, starts another child, and is killed: both children still end."""
    code = (
        "import os, signal, sys; from pathlib import Path; from local.tree import ChildSpec, ProcessTree\n"
        f"tree = ProcessTree(Path(sys.argv[1]), grace_seconds=1.0)\nsleep = {SLEEP!r}\n"
        "one = tree.start(ChildSpec('one', sleep))\n"
        "guard = tree._guard._process; os.kill(guard.pid, 9); guard.wait()\n"
        "two = tree.start(ChildSpec('two', sleep))\n"
        "print(one, two, flush=True); os.kill(os.getpid(), 9)\n"
    )
    # The children would keep a pipe of ours open only if they inherited it, and then this call would not return.
    done = subprocess.run([sys.executable, "-c", code, state_dir], cwd=ROOT, capture_output=True, text=True, timeout=20)
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    assert processes.wait_until(lambda: all(processes.identify(pid) is None for pid in pids), 8)


def test_stop_all_from_another_thread_ends_the_wait(state_dir: Path) -> None:
    with ProcessTree(state_dir) as tree:
        tree.start(ChildSpec("one", SLEEP))
        stopper = threading.Timer(0.2, tree.stop_all)
        stopper.start()
        assert tree.wait(10) is None
        stopper.join()
        assert tree.names == []
