-- Every worker asks twice a second how many deliveries a person must decide on; they are few among many.
CREATE INDEX delivery_unknown ON delivery (message_id) WHERE state = 'unknown';
