-- Several relays share the shards of the outbox: who wants a shard says so, and who leases it hands it over.

ALTER TABLE relay_lease
    ADD COLUMN wanted_by    text,
    ADD COLUMN wanted_until timestamptz,
    ADD CONSTRAINT relay_lease_wanted CHECK ((wanted_by IS NULL) = (wanted_until IS NULL)),
    ADD CONSTRAINT relay_lease_wanted_by_another CHECK (wanted_by <> owner);
COMMENT ON COLUMN relay_lease.owner IS 'The process that leases it; null once it was given up';
COMMENT ON COLUMN relay_lease.expires_at IS 'Until when the lease holds; since when the shard is free where nobody leases it';
COMMENT ON COLUMN relay_lease.wanted_by IS 'The process whose share it is, while another one leases it';
COMMENT ON COLUMN relay_lease.wanted_until IS 'Until when that process is taken to live: it says so again and again';

CREATE TABLE relay_member (
    name       text NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT relay_member_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE relay_member IS 'The relays that are there, where ZooKeeper is not used to know them';
COMMENT ON COLUMN relay_member.name IS 'The name under which it leases shards';
COMMENT ON COLUMN relay_member.expires_at IS 'Until when it is taken to be there: it says so again and again';
