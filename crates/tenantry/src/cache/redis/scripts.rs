//! What Redis does in one step, in its own language.
//!
//! A Redis that is full and evicts nothing refuses a script whose first write takes room; after another write it lets it end. So what
//! has to be written for nothing to be wrong comes after something that gives room up, if there is any, and values come first.

use std::sync::LazyLock;

use ::redis::Script;

/// Stores a value within the tenant's budget. Keys: value, generation, ends, sizes, deletion, line. Arguments: `computed` or `set`, the
/// text, milliseconds to live, a fresh generation, the budget; for `computed` the generation, value and deletion that were
/// seen, for `set` the line's token. Gives 1 where it is stored, 0 where it is not, -1 where the line is another's by now: a
/// network may deliver late what was sent over one that was given up.
///
/// A key that somebody made of another kind counts as not there, and is overwritten.
pub(super) static STORE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local function text(key)
  local held = redis.pcall('get', key)
  if type(held) == 'string' then return held end
  return ''
end
local generation = text(KEYS[2])
if ARGV[1] == 'computed' then
  if generation ~= ARGV[6] or text(KEYS[1]) ~= ARGV[7] or text(KEYS[5]) ~= ARGV[8] then return 0 end
end
if ARGV[1] == 'set' and text(KEYS[6]) ~= ARGV[6] then return -1 end
if generation == '' then generation = ARGV[4] end
redis.call('set', KEYS[2], generation, 'EX', 90000)

local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = tonumber(redis.call('hget', KEYS[4], '') or '0')
local function forget(name)
  local size = tonumber(redis.call('hget', KEYS[4], name) or '0')
  redis.call('hdel', KEYS[4], name)
  redis.call('zrem', KEYS[3], name)
  held = held - size
end
for _, ended in ipairs(redis.call('zrangebyscore', KEYS[3], '-inf', now, 'limit', 0, 100)) do forget(ended) end
forget(KEYS[1])
redis.call('unlink', KEYS[1])
local size = #KEYS[1] + #generation + #ARGV[2]
local budget = tonumber(ARGV[5])
local stored = 0
if size <= budget then
  while held + size > budget do
    local first = redis.call('zrange', KEYS[3], 0, 0)[1]
    if not first then held = 0 break end
    redis.call('unlink', first)
    forget(first)
  end
  redis.call('set', KEYS[1], generation .. ARGV[2], 'PX', ARGV[3])
  redis.call('zadd', KEYS[3], now + tonumber(ARGV[3]), KEYS[1])
  redis.call('hset', KEYS[4], KEYS[1], size)
  held = held + size
  stored = 1
end
redis.call('hset', KEYS[4], '', held)
redis.call('expire', KEYS[3], 90000)
redis.call('expire', KEYS[4], 90000)
redis.call('expire', KEYS[6], 90000)
return stored
",
    )
});

/// Forgets a value and leaves a mark. Keys: value, deletion, ends, sizes. Arguments: the mark, and how long it stays.
pub(super) static DELETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('unlink', KEYS[1])
redis.call('set', KEYS[2], ARGV[1], 'PX', ARGV[2])
local size = tonumber(redis.call('hget', KEYS[4], KEYS[1]) or '0')
if size > 0 then
  redis.call('hdel', KEYS[4], KEYS[1])
  redis.call('zrem', KEYS[3], KEYS[1])
  redis.call('hincrby', KEYS[4], '', -size)
end
return 1
",
    )
});

/// Writes texts, also where Redis is full. Keys: where. Arguments: a text for each, in the same order, and for how many seconds all of
/// them stay.
pub(super) static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
for n, key in ipairs(KEYS) do
  redis.call('unlink', key)
  redis.call('set', key, ARGV[n], 'EX', ARGV[#KEYS + 1])
end
return 1
",
    )
});

/// From here on no value of a tenant counts that was written before; also where Redis is full. Keys: generation, ends, sizes. Arguments:
/// a fresh generation, and for how many seconds it stays.
pub(super) static PURGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('unlink', KEYS[2], KEYS[3])
redis.call('set', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
",
    )
});

/// Removes a value if it is still the one that was read.
pub(super) static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new("if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('unlink', KEYS[1]) end return 0")
});
