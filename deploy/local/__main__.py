"""The command line of the local stack; `make help` lists the verbs."""

import argparse
import os
import sys

from deploy.local import processes, screen, services, stack
from deploy.local.layout import Layout, Refusal


def main() -> int:
    """Carry out one verb; 0 when all is well, 1 with one sentence when not."""
    parser = argparse.ArgumentParser(prog="deploy.local", description="The whole system on this machine, without a container engine.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start what is not running; repair what was killed")
    up.add_argument("--infrastructure", action="store_true", help="broker, database and topics only")
    for verb, told in {
        "down": "stop everything",
        "status": "show every process",
        "reset": "stop everything and delete the data",
        "watch": "keep the services running (started by up)",
    }.items():
        verbs.add_parser(verb, help=told)
    logs = verbs.add_parser("logs", help="follow the logs")
    logs.add_argument("name", nargs="?", default="*", help="process, for example reporting-worker")
    chosen = parser.parse_args()
    try:
        layout = Layout.from_environment()
        match chosen.verb:
            case "up":
                stack.up(layout, infrastructure_only=chosen.infrastructure)
            case "down":
                stack.down(layout)
            case "reset":
                stack.reset(layout)
            case "watch":
                services.watch(layout)
            case "status":
                return 0 if screen.status(layout) else 1
            case "logs":
                files = sorted(str(path) for path in layout.logs.glob(f"{chosen.name}.log"))
                if not files:
                    print(f"There is no log of {chosen.name}: 'make status' shows the processes.", file=sys.stderr)
                    return 1
                os.execvp("tail", ["tail", "-n", str(processes.LOG_LINES), "-F", *files])
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
