-- From here on a user may have a face map, and an event may be about no user: older versions cannot
-- read either.

-- With a rowid: the keys of one application may fill several pages.
CREATE TABLE application (
  id      TEXT    NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL,
  body    BLOB    NOT NULL
) STRICT;

CREATE TABLE owner (
  id      BLOB    NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL,
  body    BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
