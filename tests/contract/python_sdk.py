"""Drives the official Python SDK (callingbox 0.1.0) against the simulator.

Covers what the SDK supports and agents did not replace: numbers, reading calls, and webhooks with the
signature of a delivered body. Reads CALLINGBOX_BASE_URL and CALLINGBOX_API_KEY. The simulator must run
with --manual and --allow-private-webhooks.
"""

import json
import os
import queue
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import callingbox
from callingbox import Callingbox

BASE = os.environ["CALLINGBOX_BASE_URL"]
KEY = os.environ["CALLINGBOX_API_KEY"]


def send_request(method, path, body=None):
    """Sends a request that the SDK does not support: agents and control endpoints."""
    request = urllib.request.Request(
        BASE + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


class Receiver(BaseHTTPRequestHandler):
    """Keeps the delivered messages."""

    messages = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Receiver.messages.put((self.headers, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hook = f"http://127.0.0.1:{server.server_port}/hook"

    send_request("POST", "/sandbox/reset")
    send_request("POST", "/sandbox/credits", {"balance_milli_cents": 100_000_000})
    client = Callingbox(api_key=KEY, base_url=BASE)

    # Numbers.
    assert list(client.numbers.list()) == []
    offers = client.numbers.search_available(area_code="415", number_type="local", limit=3)
    assert [offer.phone_number[:5] for offer in offers] == ["+1415"] * 3
    assert {(o.state, o.monthly_cost_cents, o.upfront_cost_cents) for o in offers} == {("CA", 100, 0)}
    bought = [client.numbers.purchase(offer.phone_number) for offer in offers]
    newest_first = [number.id for number in reversed(bought)]
    page = client.numbers.list(limit=2)
    assert ([number.id for number in page], page.has_more) == (newest_first[:2], True)
    assert [number.id for number in client.numbers.iter_numbers(limit=1)] == newest_first
    back = client.numbers.iter_numbers(limit=1, ending_before=newest_first[-1])
    assert [number.id for number in back] == newest_first[:-1]
    assert {number.status for number in bought} == {"active"}

    # Webhook endpoints.
    endpoint = client.webhooks.create_endpoint(hook, description="proof", enabled_events=["call.completed"])
    assert endpoint.signing_secret.startswith("whsec_")
    assert [found.id for found in client.webhooks.list_endpoints()] == [endpoint.id]
    found = client.webhooks.get_endpoint(endpoint.id)
    assert (found.description, found.signing_secret, found.status) == ("proof", None, "enabled")
    updated = client.webhooks.update_endpoint(endpoint.id, description=None, status="disabled")
    assert (updated.description, updated.status, updated.disabled_at is None) == (None, "disabled", False)
    updated = client.webhooks.update_endpoint(endpoint.id, status="enabled", enabled_events=["*"])
    assert (updated.status, updated.disabled_at, updated.enabled_events) == ("enabled", None, ["*"])
    rotated = client.webhooks.rotate_secret(endpoint.id)
    assert rotated.signing_secret not in (None, endpoint.signing_secret)

    # Calls are placed through agents, which the SDK does not support yet, and read through the SDK.
    agent = send_request("POST", "/v1/agents", {
        "name": "Reminders",
        "type": "outbound",
        "instructions": "Remind the patient.",
        "returns": {"confirmed": "boolean", "new_time": "string", "party_size": "number"},
        "number_ids": [bought[0].id],
    })
    placed = [
        send_request("POST", "/v1/calls", {"agent_id": agent["id"], "to": to, "metadata": {"visit": "v-1"}})["id"]
        for to in ("+13105550100", "+13105550101", "+13105550103")
    ]
    assert client.calls.retrieve(placed[0]).status == "queued"
    assert client.calls.retrieve_transcript(placed[0]) == []
    send_request("POST", "/sandbox/clock", {"advance_seconds": 600})
    page = client.calls.list(limit=2)
    assert ([call.id for call in page], page.has_more) == (placed[::-1][:2], True)
    assert [call.id for call in client.calls.iter_calls(limit=1)] == placed[::-1]
    done = client.calls.retrieve(placed[0])
    assert (done.status, done.result_status, done.reservation_status) == ("completed", "completed", "settled")
    # A clear no fills the alternative, and the rest is not talked about.
    assert [type(value) for value in done.result.values()] == [bool, str, type(None)], done.result
    assert done.metadata == {"visit": "v-1"}
    assert done.billing_amount_milli_cents == -(-done.billed_duration_seconds * 5000 // 60)
    assert [client.calls.retrieve(id).status for id in placed[1:]] == ["no_answer", "no_answer"]
    lines = client.calls.retrieve_transcript(placed[0])
    assert [line.sequence_no for line in lines] == list(range(1, len(lines) + 1))
    assert {line.role for line in lines} == {"agent", "user"}
    try:
        client.calls.retrieve("00000000-0000-4000-8000-000000000000")
        raise AssertionError("an unknown call was found")
    except callingbox.NotFoundError:
        pass
    try:
        Callingbox(api_key="wrong", base_url=BASE).calls.list()
        raise AssertionError("an invalid key was accepted")
    except callingbox.AuthenticationError:
        pass

    # Deliveries, and the signatures of the delivered messages.
    deliveries = client.webhooks.list_deliveries(endpoint_id=endpoint.id, call_id=placed[0])
    assert [found.event_type for found in deliveries] == [
        "call.completed", "call.answered", "call.ringing", "call.queued",
    ]
    assert {(found.status, found.attempt_count) for found in deliveries} == {("delivered", 1)}
    completed = None
    while not Receiver.messages.empty():
        headers, body = Receiver.messages.get()
        event = client.webhooks.construct_event(body, headers["CallingBox-Signature"], rotated.signing_secret)
        assert headers["CallingBox-Event-Id"] == event.id
        if event.type == "call.completed":
            completed = event
    assert completed.data["call"]["result"] == done.result
    headers_and_body = (headers["CallingBox-Signature"], body)
    try:
        client.webhooks.construct_event(headers_and_body[1], headers_and_body[0], endpoint.signing_secret)
        raise AssertionError("the old secret still signs")
    except callingbox.BadRequestError:
        pass
    again = client.webhooks.redeliver(deliveries[0].id)
    assert (again.id, again.status, again.manual_retry_count) == (deliveries[0].id, "pending", 1)
    send_request("POST", "/sandbox/clock", {"advance_seconds": 0})
    assert client.webhooks.get_delivery(deliveries[0].id).status == "delivered"
    headers, body = Receiver.messages.get(timeout=10)
    event = client.webhooks.construct_event(body, headers["CallingBox-Signature"], rotated.signing_secret)
    assert (event.id, event.type) == (deliveries[0].id, "call.completed")
    client.webhooks.delete_endpoint(endpoint.id)
    assert client.webhooks.list_endpoints() == []
    server.shutdown()
    print("the official SDK accepts every answer")


if __name__ == "__main__":
    main()
