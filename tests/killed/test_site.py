"""Whatever is killed and whenever: the same command again ends in the same lab."""

import re
import subprocess

from conftest import Site, machines, there_is_a_lab


def test_a_run_that_is_killed_again_and_again_ends_in_the_lab(moments):
    assert not there_is_a_lab(), "there is a lab on this machine: make destroy"
    seen, finished = {}, 0
    for seconds, steps_too in moments:
        site = Site()
        output, code = site.end(seconds)
        assert code in (None, 0), output
        if code == 0:
            finished += 1
            continue
        task = site.kill(steps_too)
        print(f"killed after {seconds:.1f} s{' with its steps' if steps_too else ''}: {' '.join(task) or 'before the first task'}")
        now = machines()
        assert {name: now.get(name) for name in seen} == seen, "no machine is lost, and none is made again"
        seen |= now

    output, code = Site().end()
    assert code == 0, output
    now = machines()
    assert {name: now.get(name) for name in seen} == seen
    print(f"{len(moments) - finished} runs killed, {finished} ended before their moment; {len(now)} machines, none made again")
    assert finished < len(moments), "something was killed"

    output, code = Site().end()
    assert code == 0 and re.search("changed=0 .*failed=0", output), output
    judged = subprocess.run(["tests/lab/run"], capture_output=True, text=True, timeout=600)
    assert re.search(r"^[1-9][0-9]* passed, 0 failed$", judged.stdout.strip().splitlines()[-1]), judged.stdout
