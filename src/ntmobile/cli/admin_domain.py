"""`ntm admin federation`, `policy`, `audit`: who may talk to whom."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ntmobile.cli.admin_common import Row, done, read_file, run, show_rows, wall
from ntmobile.cli.node_output import JsonOption, command, note, show, show_json
from ntmobile.keys.identity import fingerprint
from ntmobile.proto.coordinator.policy import Federation
from ntmobile.servers.admin import Admin

FEDERATION = typer.Typer(help="Foreign domains.", no_args_is_help=True)
POLICY = typer.Typer(help="Who may talk to whom.", no_args_is_help=True)


@FEDERATION.command("list")
@command
def federation_list(context: typer.Context, json: JsonOption = False) -> None:
    """List the foreign domains, and which mode holds."""

    async def read(domain: Admin) -> tuple[str, list[Row]]:
        rows: list[Row] = [
            {
                "domain": each.domain,
                "listed": each.listed,
                "key_pin": each.key_pin,
                "ca": each.ca is not None,
                "key": None if each.key is None else fingerprint(each.key),
                "trusted_by": each.trusted_by,
                "trusted_at": each.trusted_at,
                "added_at": each.added_at,
            }
            for each in await domain.store.federation.list()
        ]
        return str(domain.settings.federation.mode), rows

    mode, rows = run(context, read)
    if json:
        show_json({"mode": mode, "domains": rows})
    else:
        note(f"mode: {mode}")
        show_rows(rows, json=False, none="no foreign domain is listed")


@FEDERATION.command("add")
@command
def federation_add(
    context: typer.Context,
    domain: Annotated[str, typer.Argument(help="The foreign domain.")],
    key: Annotated[
        str | None, typer.Option(metavar="SHA256:...", help="Its domain key's fingerprint.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="Its ca.pem.")] = None,
    json: JsonOption = False,
) -> None:
    """List a foreign domain: its nodes and ours may talk."""
    pem = None if ca is None else read_file(ca)
    told = run(context, lambda own: own.add_domain(domain, wall(), key=key, ca=pem))
    done(f"listed {domain}", told, {"domain": domain}, json=json)


@FEDERATION.command("remove")
@command
def federation_remove(
    context: typer.Context,
    domain: Annotated[str, typer.Argument(help="The foreign domain.")],
    json: JsonOption = False,
) -> None:
    """Take a foreign domain off the list."""
    told = run(context, lambda own: own.remove_domain(domain))
    done(f"removed {domain}", told, {"domain": domain}, json=json)


@FEDERATION.command("mode")
@command
def federation_mode(
    context: typer.Context,
    mode: Annotated[Federation, typer.Argument(help="Whom this domain talks to.")],
    json: JsonOption = False,
) -> None:
    """Talk to every domain whose key is trusted, to listed ones, or to none."""
    told = run(context, lambda own: own.set_mode(mode))
    done(f"federation is {mode}", told, {"mode": str(mode)}, json=json)


@POLICY.command("show")
@command
def policy_show(context: typer.Context, json: JsonOption = False) -> None:
    """Print the policy file."""

    async def read(domain: Admin) -> None:
        file = domain.directory.policy()
        if not json:
            show(domain.directory.policy_file.read_text().rstrip("\n"))
            return
        rules = [
            {"action": str(rule.action), "from": rule.from_, "to": rule.to} for rule in file.rule
        ]
        show_json({"groups": dict(file.groups), "rules": rules})

    run(context, read)


@POLICY.command("set")
@command
def policy_set(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The new policy; - is standard input.")],
    json: JsonOption = False,
) -> None:
    """Replace the policy file; a wrong one changes nothing."""
    text = sys.stdin.read() if str(file) == "-" else read_file(file).decode(errors="replace")
    name = "standard input" if str(file) == "-" else str(file)
    told = run(context, lambda domain: domain.set_policy(text, name))
    done("the policy is replaced", told, {"policy": name}, json=json)


@POLICY.command("test")
@command
def policy_test(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="The node that asks.")],
    destination: Annotated[str, typer.Argument(metavar="TO", help="The node it asks for.")],
    json: JsonOption = False,
) -> None:
    """Say whether one node may open a tunnel to another."""
    judged = run(context, lambda domain: domain.test_policy(source, destination))
    if json:
        view = {"allowed": judged.allowed, "reason": judged.reason, "missing": judged.missing}
        show_json(view)
    else:
        for name in judged.missing:
            note(f"ntm: there is no node {name} now: judged by its name and its user")
        show("allowed" if judged.allowed else f"refused: {judged.reason}")


@command
def audit(
    context: typer.Context,
    newest: Annotated[int, typer.Option("-n", min=1, max=100_000, help="How many.")] = 100,
    name: Annotated[str | None, typer.Option(help="Only this node's, or domain's.")] = None,
    json: JsonOption = False,
) -> None:
    """Show who asked for whom, and what was decided."""
    rows: list[Row] = [
        {
            "at": each.at,
            "verdict": each.verdict,
            "mn": each.mn,
            "cn": each.cn,
            "reason": each.reason,
        }
        for each in run(context, lambda own: own.store.audit.list(newest=newest, name=name))
    ]
    show_rows(rows, json=json, none="nothing was decided yet")
