"""The tables "Access" and "Alerts" at the end of the demo."""

from pipeline.demo.access import AccessOutcome
from pipeline.demo.alerts import AlertsOutcome, Delivered
from pipeline.demo.show import Show


def show_access(show: Show, access: AccessOutcome) -> None:
    """Print the steps of the scene, and what all requests came to."""
    rows = [
        [
            f"{show.mark(good=step.as_expected)} {step.title}",
            step.seen if step.as_expected else f"[red]{step.seen}[/], not {step.expected}",
            f"{step.latency_ms:,.0f} ms",
        ]
        for step in access.played
    ]
    alerted = access.alerted_ms
    rows.append(
        [
            f"{show.mark(good=alerted is not None)} the broken glass is told",
            "alert: break_glass" if alerted is not None else "[red]no alert[/]",
            "-" if alerted is None else f"{alerted:,.0f} ms",
        ]
    )
    show.table("Access, as a gateway was answered", ["step", "answer", "after"], rows)
    show.say(
        f"[dim]of all requests {access.permitted:,} were permitted and {access.denied:,} denied[/]", indent=2
    )


def show_alerts(show: Show, alerts: AlertsOutcome) -> None:
    """Print what each output was told, and what `alerts` holds."""
    rows = [
        [
            f"{show.mark(good=not each.missing and not each.faults)} {each.output}",
            f"{each.delivered:,}",
            f"{len(each.missing):,}",
            _away(each),
        ]
        for each in alerts.deliveries
    ]
    columns = ["output", "delivered", "gaps", "was away"]
    show.table("Alerts, told to the party", columns, rows)
    show.say(
        f"[dim]messages in the topic: {alerts.alerts:,}, suppressed: {alerts.suppressed:,}, "
        f"incidents: {len(alerts.incidents):,}[/]",
        indent=2,
    )
    for incident in alerts.incidents:
        show.say(f"incident: {incident.rule} at {incident.devices:,} devices", mark=show.dot, indent=2)


def _away(each: Delivered) -> str:
    if each.away_s == 0:
        return "never"
    if each.caught_up_s is None:
        return f"{each.away_s:.1f} s, {each.missed:,} alerts, not caught up"
    return f"{each.away_s:.1f} s, {each.missed:,} alerts caught up in {each.caught_up_s:.1f} s"
