#!lua name=@NAME@

-- The functions that the store calls. They compare versions and write; what is allowed, others decided.
-- Each compares everything first and writes afterwards, since a function that fails half-way leaves what it wrote.
--
-- A record is a hash: v its version, l the lineage that it was written in, b its stored form. While a change that
-- reaches over several slots is under way it also has the intent: c the id of that commit, h and p the bucket and
-- the epoch in which it is decided, n, w and q the version, the stored form and the lineage that are to come.

-- The replication id of this primary, and the lineage of what is written here: the same, but for a server that
-- has no replica, had none lately (it would keep a backlog for it), was not promoted since it started, and answers
-- only what is on its disk.
local function here(alone)
  local info = server.call('INFO', 'replication')
  local replid = string.match(info, 'master_replid:(%x+)')
  if alone == '1' and string.find(info, 'connected_slaves:0\r', 1, true)
      and string.find(info, 'repl_backlog_active:0\r', 1, true)
      and string.find(info, 'master_replid2:' .. string.rep('0', 40), 1, true) then
    return replid, 'alone', info
  end
  return replid, replid, info
end

-- What speaks against a record that was made from version `old`, by somebody who knew the bucket in lineage `known`,
-- or had read nothing of it; nil where nothing does. What a failover lost may have been made again since: the same
-- versions have other contents then.
local function trouble(key, old, fenced, known, lineage, id)
  if known ~= '' and known ~= lineage then return 'moved' end
  local found = server.call('HMGET', key, 'v', 'l', 'c')
  local version = found[1] or '0'
  if found[3] and found[3] ~= id then return 'held' end
  if found[1] and found[2] ~= lineage then
    -- A token of another lineage is void: it may have been spent in what a failover lost.
    if fenced == '1' then version = '0' else return 'old' end
  end
  if version ~= old then return 'moved' end
end

local function number(n) return string.format('%.0f', n) end

-- The number after which the next event is counted. What was lost may have been read already, so none of those
-- numbers is given twice: whoever goes on counting after another primary, or after nobody, begins at the microseconds
-- since 1970. An event takes longer than one, so nobody has counted up to now, from wherever he began before now; what
-- he counted from need not be known any more, and it may be the same for several one after the other. It takes
-- that the clock of a server that takes over is not behind by as long as the one before it was the primary.
-- Doubles are exact up to 2^53, which is in the year 2255; a stream's numbers have 64 bits.
local function last(counted, replid)
  local n = tonumber(counted[2] or '0')
  if counted[1] == replid then return n end
  local now = server.call('TIME')
  return math.max(n, now[1] * 1000000 + now[2])
end

-- KEYS: control, stream of events, decided; then for each record its key and that of its index, or its own again.
-- ARGV: alone, commit, epoch, where else the change reaches, how many records; for each the version it was made
-- from, its own or nothing, fenced, the lineage it was known in, score and member of the index, stored form; then
-- events.
local function commit(keys, args)
  local replid, lineage = here(args[1])
  local control, id, records = keys[1], args[2], tonumber(args[5])
  local counted = server.call('HMGET', control, 'l', 'n', 'e')
  local epoch = lineage .. ':' .. (counted[3] or '0')
  if args[3] ~= '' and args[3] ~= epoch then return {'epoch', epoch} end
  for i = 0, records - 1 do
    local a, key = 6 + 7 * i, keys[4 + 2 * i]
    local what = trouble(key, args[a], args[a + 2], args[a + 3], lineage, '')
    if what then return {what, key} end
  end
  for i = 0, records - 1 do
    local a, key, index = 6 + 7 * i, keys[4 + 2 * i], keys[5 + 2 * i]
    if args[a + 1] ~= '' then
      server.call('HSET', key, 'v', args[a + 1], 'l', lineage, 'b', args[a + 6])
      if index ~= key then server.call('ZADD', index, args[a + 4], args[a + 5]) end
    end
  end
  local first = 6 + 7 * records
  if args[first] then
    local n, now = last(counted, replid), server.call('TIME')
    local at = now[1] .. string.format('%06d', now[2])
    for i = first, #args do
      n = n + 1
      server.call('XADD', keys[2], number(n) .. '-1', 'e', args[i], 't', at)
    end
    server.call('HSET', control, 'l', replid, 'n', number(n))
  end
  if args[4] ~= '' then server.call('HSET', keys[3], id, args[4]) end
  return {'ok', replid}
end

-- KEYS: record, its index or itself. ARGV: alone, commit, bucket and epoch of the decision, then as in a commit.
local function prepare(keys, args)
  local replid, lineage = here(args[1])
  local what = trouble(keys[1], args[5], args[7], args[8], lineage, args[2])
  if what then return {what, keys[1]} end
  server.call('HSET', keys[1], 'c', args[2], 'h', args[3], 'p', args[4], 'n', args[6], 'w', args[11], 'q', lineage)
  if keys[2] ~= keys[1] then server.call('ZADD', keys[2], args[9], args[10]) end
  return {'ok', replid}
end

-- KEYS: record. ARGV: commit, 'done' or 'undone'.
local function settle(keys, args)
  local replid = here('0')
  local found = server.call('HMGET', keys[1], 'c', 'n', 'w', 'q')
  if found[1] ~= args[1] then return {'ok', replid} end
  if args[2] == 'done' and found[2] ~= '' then
    server.call('HSET', keys[1], 'v', found[2], 'b', found[3], 'l', found[4])
  end
  server.call('HDEL', keys[1], 'c', 'h', 'p', 'n', 'w', 'q')
  return {'ok', replid}
end

-- KEYS: control, decided. ARGV: alone, commit, epoch, whether an open one ends here.
local function outcome(keys, args)
  local replid, lineage = here(args[1])
  if server.call('HEXISTS', keys[2], args[2]) == 1 then return {'done', replid} end
  if args[3] ~= lineage .. ':' .. (server.call('HGET', keys[1], 'e') or '0') then return {'undone', replid} end
  if args[4] ~= '1' then return {'open', replid} end
  server.call('HINCRBY', keys[1], 'e', 1)
  return {'undone', replid}
end

-- KEYS: control. ARGV: alone.
local function epoch(keys, args)
  local _, lineage = here(args[1])
  return lineage .. ':' .. (server.call('HGET', keys[1], 'e') or '0')
end

-- KEYS: record. ARGV: alone.
local function read(keys, args)
  local _, lineage = here(args[1])
  local found = server.call('HMGET', keys[1], 'v', 'l', 'b', 'c', 'h', 'p')
  for i = 1, 6 do found[i] = found[i] or '' end
  return {lineage, unpack(found)}
end

-- KEYS: record. ARGV: alone, the version and the lineage that are stored, the version and the form that are to be.
local function adopt(keys, args)
  local replid, lineage = here(args[1])
  local found = server.call('HMGET', keys[1], 'v', 'l', 'c')
  if found[1] == args[2] and found[2] == args[3] and not found[3] then
    server.call('HSET', keys[1], 'v', args[4], 'l', lineage, 'b', args[5])
  end
  return {'ok', replid}
end

-- KEYS: where a token lies. ARGV: whose it is, for how many milliseconds to keep that.
local function place(keys, args)
  server.call('SET', keys[1], args[1], 'PX', args[2])
  return {'ok', (here('0'))}
end

-- KEYS: decided.
local function decided(keys, args)
  return {(here('0')), server.call('HGETALL', keys[1])}
end

-- KEYS: index of expiries, records. ARGV: before, members.
local function remove(keys, args)
  local removed, held = 0, {}
  for i = 2, #keys do
    local score = server.call('ZSCORE', keys[1], args[i])
    if score and tonumber(score) <= tonumber(args[1]) then
      if server.call('HEXISTS', keys[i], 'c') == 1 then
        held[#held + 1] = keys[i]
      else
        removed = removed + server.call('DEL', keys[i])
        server.call('ZREM', keys[1], args[i])
      end
    end
  end
  return {removed, held}
end

-- KEYS: a stream. ARGV: the first number, how many.
local function range(keys, args)
  return {(here('0')), server.call('XRANGE', keys[1], args[1], '+', 'COUNT', args[2])}
end

-- KEYS: log, its control. ARGV: how many sources; for each its name, its last number in the log, and the last of
-- these; events.
local function append(keys, args)
  local replid = here('0')
  local sources = tonumber(args[1])
  for i = 0, sources - 1 do
    local a = 2 + 3 * i
    if (server.call('HGET', keys[2], args[a]) or '0') ~= args[a + 1] then return {'moved', replid} end
  end
  local n = last(server.call('HMGET', keys[2], 'l', 'n'), replid)
  for i = 2 + 3 * sources, #args do
    n = n + 1
    server.call('XADD', keys[1], number(n) .. '-1', 'e', args[i])
  end
  server.call('HSET', keys[2], 'l', replid, 'n', number(n))
  for i = 0, sources - 1 do server.call('HSET', keys[2], args[2 + 3 * i], args[4 + 3 * i]) end
  return {'ok', replid}
end

-- KEYS: mark. Writes something that every replica must take before it takes what comes later.
local function mark(keys, args)
  local replid, _, info = here('0')
  server.call('SET', keys[1], '')
  return {replid, string.match(info, 'master_repl_offset:(%d+)')}
end

-- KEYS: something to write to. Does everything once that the others do: what a user may not do shall be known
-- before a change is left half written.
local function try(keys)
  local key, replid = keys[1], here('0')
  server.call('DEL', key)
  server.call('HSET', key, 'n', 0, 'b', '')
  server.call('HINCRBY', key, 'n', 1)
  server.call('HEXISTS', key, 'n')
  server.call('HGET', key, 'n')
  server.call('HMGET', key, 'n', 'b')
  server.call('HGETALL', key)
  server.call('HDEL', key, 'n', 'b')
  server.call('ZADD', key, 0, '')
  server.call('ZSCORE', key, '')
  server.call('ZREM', key, '')
  server.call('XADD', key, '1-1', 'e', '')
  server.call('XRANGE', key, '-', '+')
  server.call('TIME')
  server.call('SET', key, '')
  server.call('DEL', key)
  return {'ok', replid}
end

-- KEYS: mark. How far each replica has come; one that is still being filled has nothing that could be relied on.
local function taken(keys, args)
  local replid, _, info = here('0')
  local answer = {replid}
  for offset in string.gmatch(info, 'slave%d+:[^\r]-,state=online,offset=(%d+)') do answer[#answer + 1] = offset end
  return answer
end

-- The arguments, which come packed into one, their lengths first: many cost whoever sends them more.
local function unpacked(text)
  local args, at = {}, string.find(text, '\n', 1, true) + 1
  for size in string.gmatch(string.sub(text, 1, at - 2), '%d+') do
    args[#args + 1] = string.sub(text, at, at + size - 1)
    at = at + size
  end
  return args
end

local function register(name, callback, reads)
  server.register_function{
    function_name = '@NAME@_' .. name,
    callback = function(keys, packed) return callback(keys, unpacked(packed[1])) end,
    flags = reads and {'no-writes'} or {}
  }
end

register('commit', commit)
register('prepare', prepare)
register('settle', settle)
register('outcome', outcome)
register('epoch', epoch, true)
register('read', read, true)
register('adopt', adopt)
register('place', place)
register('decided', decided, true)
register('remove', remove)
register('range', range, true)
register('append', append)
register('mark', mark)
register('try', try)
register('taken', taken, true)
