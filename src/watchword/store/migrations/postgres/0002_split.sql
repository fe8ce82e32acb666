-- For tokens that lie in Valkey, and users here: what was decided of changes that reach both.
-- The body names the records there that wait for it; it is empty where nothing came of the change.
CREATE TABLE decision (
  id      bytea       NOT NULL PRIMARY KEY,
  version bigint      NOT NULL,
  body    bytea       NOT NULL,
  made_at timestamptz NOT NULL DEFAULT now()
);

-- How far the events of each source there have arrived here.
CREATE TABLE arrival (
  source bigint NOT NULL PRIMARY KEY,
  number bigint NOT NULL
);

-- By what Valkey knows this database, so that what lies there is of no other's users.
CREATE TABLE database_name (
  id   bigint NOT NULL PRIMARY KEY,
  name bytea  NOT NULL
);

INSERT INTO database_name (id, name) VALUES (1, convert_to(gen_random_uuid()::text, 'UTF8'));
