-- Records are opaque here (store/codec.py): beside each body stands only what a write compares or
-- a sweep looks for. Room is left in each page, so that an update stays in it and touches no index.

CREATE TABLE token (
  id         bytea  NOT NULL PRIMARY KEY,
  version    bigint NOT NULL,
  expires_at bigint NOT NULL,
  -- The timeline of the server on which it was issued: on another one it is void.
  lineage    text   NOT NULL,
  body       bytea  NOT NULL
) WITH (fillfactor = 60);

-- No update touches it: the expiry of a token stands from its issue on.
CREATE INDEX token_expires_at ON token (expires_at);

CREATE TABLE user_security (
  id      bigint NOT NULL PRIMARY KEY,
  version bigint NOT NULL,
  body    bytea  NOT NULL
) WITH (fillfactor = 60);

CREATE TABLE destination (
  id      bytea  NOT NULL PRIMARY KEY,
  version bigint NOT NULL,
  last_at bigint NOT NULL,
  body    bytea  NOT NULL
);

CREATE INDEX destination_last_at ON destination (last_at);

-- By the bytes of its name: no collation folds two, and no character is forbidden.
CREATE TABLE application (
  id      bytea  NOT NULL PRIMARY KEY,
  version bigint NOT NULL,
  body    bytea  NOT NULL
);

CREATE TABLE owner (
  id      bytea  NOT NULL PRIMARY KEY,
  version bigint NOT NULL,
  body    bytea  NOT NULL
);

-- Events as they are committed. Their ids are drawn before the commit, so that a later one may be
-- seen first: whoever reads the trail moves them into it, one reader at a time.
CREATE TABLE event_inbox (
  id   bigserial NOT NULL PRIMARY KEY,
  body bytea     NOT NULL
);

CREATE TABLE event (
  seq  bigint NOT NULL PRIMARY KEY,
  body bytea  NOT NULL
);

-- The number of the last event, in one row, which is also the lock of whoever numbers.
CREATE TABLE event_last (
  id  bigint NOT NULL PRIMARY KEY,
  seq bigint NOT NULL
);

INSERT INTO event_last (id, seq) VALUES (1, 0);
