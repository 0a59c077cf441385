"""Subscribes a receiver, publishes an event, and shows what became of it: `quickstart.py [HOST:PORT]`.

The receiver is in this process and verifies the signature, as any receiver should.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
from standardwebhooks import Webhook

from postrider.v1 import delivery_pb2, delivery_service_pb2, delivery_service_pb2_grpc
from postrider.v1 import event_pb2, event_service_pb2, event_service_pb2_grpc
from postrider.v1 import subscription_pb2, subscription_service_pb2, subscription_service_pb2_grpc

TENANT = "tenants/default"


class Receiver(BaseHTTPRequestHandler):
    webhook: Webhook  # verifies with the subscription's secret

    def do_POST(self):
        # The signature is over the bytes that were sent, not over what a parser makes of them.
        body = self.rfile.read(int(self.headers["content-length"]))
        callback = self.webhook.verify(body, dict(self.headers))  # raises if it is not genuine
        print(f"received   {self.headers['webhook-id']} {callback}")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    server = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
    receiver = HTTPServer(("127.0.0.1", 0), Receiver)
    with grpc.insecure_channel(server) as channel:
        subscriptions = subscription_service_pb2_grpc.SubscriptionServiceStub(channel)
        events = event_service_pb2_grpc.EventServiceStub(channel)
        deliveries = delivery_service_pb2_grpc.DeliveryServiceStub(channel)

        created = subscriptions.CreateSubscription(
            subscription_service_pb2.CreateSubscriptionRequest(
                parent=TENANT,
                subscription=subscription_pb2.Subscription(
                    target_url=f"http://127.0.0.1:{receiver.server_port}/hooks",
                    event_types=["order.*"],
                ),
            )
        )
        print(f"subscribed {created.subscription.name}")
        Receiver.webhook = Webhook(created.secret)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()

        published = events.PublishEvent(
            event_service_pb2.PublishEventRequest(
                parent=TENANT,
                event=event_pb2.Event(type="order.created", data=json.dumps({"id": 17}).encode()),
                request_id=f"order-17-{time.time_ns()}",  # makes it safe to repeat the call
            )
        ).published
        print(f"published  {published.event}, for {published.delivery_count} subscriptions")

        # To your subscription alone: others may want the event too.
        request = delivery_service_pb2.ListDeliveriesRequest(
            parent=TENANT, event=published.event, subscription=created.subscription.name
        )
        for _ in range(100):
            [delivery] = deliveries.ListDeliveries(request).deliveries
            if delivery.state != delivery_pb2.DELIVERY_STATE_PENDING:
                break
            time.sleep(0.1)
        state = delivery_pb2.DeliveryState.Name(delivery.state)
        print(f"delivery   {delivery.name} is {state} after {delivery.attempt_count} attempt(s)")

        subscriptions.DeleteSubscription(
            subscription_service_pb2.DeleteSubscriptionRequest(name=created.subscription.name)
        )


if __name__ == "__main__":
    main()
