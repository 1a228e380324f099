"""Cycles by curl: many at a time, in step, so that one curl sends the requests of all of them over one connection.
Prints what was sent."""

import json
import subprocess
import time

from arguments import arguments
from cycle import Answer, Counts, cycle

CYCLES = 20
# A line after each body. No body has a line break.
WRITTEN = r"\n%{http_code} %{http_version} %{num_connects} %{header_json}\n\n"


def section(options, request):
    """The lines of curl's configuration for one request."""
    yield f'url = "{options.url}{request.path}"'
    yield f'request = "{request.method}"'
    if request.json is not None:
        yield "data = " + json.dumps(json.dumps(request.json))
    if request.if_match:
        yield "header = " + json.dumps("If-Match: " + request.if_match)
    if options.ca:
        yield f'cacert = "{options.ca}"'
    if options.protocol == "HTTP/2":
        yield "http2" if options.ca else "http2-prior-knowledge"
    else:
        yield "http1.1"
    yield "max-time = 60"
    yield f'write-out = "{WRITTEN}"'


def send(options, requests):
    """Sends the requests with one curl."""
    config = "\nnext\n".join("\n".join(section(options, request)) for request in requests)
    command = ["curl", "--disable", "--silent", "--show-error", "--fail-early", "--config", "-"]
    ended = subprocess.run(command, input=config, capture_output=True, text=True)
    assert ended.returncode == 0, (ended.returncode, ended.stderr)
    answers, connects = [], 0
    for written in ended.stdout.removesuffix("\n\n").split("\n\n"):
        body, line = written.split("\n", 1)
        status, version, connected, headers = line.split(" ", 3)
        assert "HTTP/" + version == options.protocol, written
        connects += int(connected)
        headers = {name: values[0] for name, values in json.loads(headers).items()}
        answers.append(Answer(int(status), headers, json.loads(body)))
    assert len(answers) == len(requests), ended.stdout
    assert connects == 1, f"{connects} connections for {len(requests)} requests"
    return answers


def main():
    options = arguments()
    counts = Counts()
    for first in range(0, options.cycles, CYCLES):
        waiting = [(cycle(counts, number), None) for number in range(first, min(first + CYCLES, options.cycles))]
        while waiting:
            asking = []
            for steps, answer in waiting:
                try:
                    asking.append((steps, steps.send(answer)))
                except StopIteration:
                    pass
            if not asking:
                break
            requests = [request for _, request in asking]
            if options.protocol == "HTTP/2" and not options.ca:
                # curl 7.88, of Debian 12, fails when it uses a connection with prior knowledge again.
                answers = [send(options, [request])[0] for request in requests]
            else:
                answers = send(options, requests)
            for (_, request), answer in zip(asking, answers):
                counts.check(request, answer)
            waiting = [(steps, answer) for (steps, _), answer in zip(asking, answers)]
        time.sleep(options.pause)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
