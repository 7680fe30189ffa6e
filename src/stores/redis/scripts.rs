//! What runs in the server, each script a whole and therefore atomic; its text is in `lua`.

use redis::Script;

/// The time is the server's own, so that every replica means the same second.
pub(super) const SERVER_TIME: &str = "local now = tonumber(redis.call('TIME')[1])\n";

/// The scripts of the tables.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) add: Script,
    pub(super) get: Script,
    pub(super) take: Script,
    pub(super) rename: Script,
    pub(super) page: Script,
    /// Takes limits; its time is always the server's.
    pub(super) limits: Script,
}

impl Scripts {
    /// Scripts for which `now` is what the Lua text says.
    pub(super) fn new(now: &str) -> Self {
        let script = |text: &str| Script::new(&[now, include_str!("lua/table.lua"), text].concat());
        Self {
            add: script(include_str!("lua/add.lua")),
            get: script(include_str!("lua/get.lua")),
            take: script(include_str!("lua/take.lua")),
            rename: script(include_str!("lua/rename.lua")),
            page: script(include_str!("lua/page.lua")),
            limits: Script::new(include_str!("lua/limits.lua")),
        }
    }
}
