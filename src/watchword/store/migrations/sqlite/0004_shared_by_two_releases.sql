-- From here on a device fingerprint is sealed: older versions cannot read that.

-- What a file says of itself. «needs» is the least schema that a version must know to share the file; a step
-- that older versions can live with says which one they must know: «-- needs: 4», on a line of its own.
CREATE TABLE about (
  name  TEXT    NOT NULL PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
