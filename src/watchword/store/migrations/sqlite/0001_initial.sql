-- Records are opaque here (store/codec.py): beside each body stands only what a write compares or
-- a sweep looks for.

-- Rows in the order of issue: the few updates that follow an issue find its page still in memory,
-- so that a million older tokens cost nothing.
CREATE TABLE token (
  seq        INTEGER PRIMARY KEY,
  id         BLOB    NOT NULL,
  version    INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  body       BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX token_id ON token (id);
-- Grows at its end only, and no update touches it.
CREATE INDEX token_expires_at ON token (expires_at);

CREATE TABLE user (
  id      INTEGER PRIMARY KEY,
  version INTEGER NOT NULL,
  body    BLOB    NOT NULL
) STRICT;

CREATE TABLE destination (
  id      BLOB    NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  body    BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX destination_last_at ON destination (last_at);

CREATE TABLE event (
  seq  INTEGER PRIMARY KEY,
  body BLOB    NOT NULL
) STRICT;
