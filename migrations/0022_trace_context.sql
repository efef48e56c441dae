-- An event belongs to the trace of the request or the event that it follows from, across processes.

ALTER TABLE outbox ADD COLUMN trace_parent text;
COMMENT ON COLUMN outbox.trace_parent IS 'W3C traceparent of what wrote the event; NULL where it is not recorded';

ALTER TABLE outbox_sent ADD COLUMN trace_parent text;
COMMENT ON COLUMN outbox_sent.trace_parent IS 'As in outbox';
