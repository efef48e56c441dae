# What may be tuned of the queues of Holdfast, with the values to begin with: `holdfast topology policies`. The lower of a
# limit here and in the queue counts, so a policy makes it stricter and never lifts it. On a queue the policy of the
# highest priority takes effect, alone. Where leaders are is settled when a queue is made: set them before the first
# start, or `rabbitmq-queues rebalance quorum`.
set -e

# delivery-limit: after how many failed deliveries a message is a dead letter. Lower values count at once.
rabbitmqctl set_policy --vhost '/' --priority 1 --apply-to queues 'holdfast.consumers' '^(holdfast\.payment|holdfast\.fulfilment)$' '{"delivery-limit":20,"queue-leader-locator":"balanced"}'

# Nothing but where their leaders are: a limit here would lose what waits for its next try.
rabbitmqctl set_policy --vhost '/' --priority 1 --apply-to queues 'holdfast.waiting' '^(holdfast\.retry\.1s|holdfast\.retry\.5s|holdfast\.retry\.30s|holdfast\.retry\.5m|holdfast\.retry\.30m|holdfast\.dead-letter)$' '{"queue-leader-locator":"balanced"}'

# How many events that nobody wants are kept, how many bytes of them, and for how many milliseconds.
rabbitmqctl set_policy --vhost '/' --priority 1 --apply-to queues 'holdfast.unroutable' '^(holdfast\.unroutable)$' '{"max-length":10000,"max-length-bytes":67108864,"message-ttl":86400000,"queue-leader-locator":"balanced"}'
