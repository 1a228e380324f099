//! The library of functions that runs in the engine.

use std::sync::OnceLock;

/// The functions of the library.
#[derive(Clone, Copy, Debug)]
pub(super) enum Function {
    /// Executes operations that need no more memory, or little.
    Run,
    /// Executes operations of which some need more memory.
    Grow,
    /// The table of pools.
    Pools,
    /// A limit that pools or shards share.
    Room,
    /// The different labels of a pool.
    Labels,
    /// A quota.
    Quota,
}

/// The parts of the library, in their order.
const PARTS: [&str; 8] = [
    include_str!("lua/head.lua"),
    include_str!("lua/record.lua"),
    include_str!("lua/lease.lua"),
    include_str!("lua/keys.lua"),
    include_str!("lua/own.lua"),
    include_str!("lua/shard.lua"),
    include_str!("lua/run.lua"),
    include_str!("lua/common.lua"),
];

/// The library, under a name that is its own: servers of different versions may share an engine.
pub(super) struct Library {
    pub(super) name: String,
    pub(super) source: String,
    functions: [String; 6],
}

impl Library {
    /// The library of this program. O(1) but for the first time.
    pub(super) fn get() -> &'static Self {
        static LIBRARY: OnceLock<Library> = OnceLock::new();
        LIBRARY.get_or_init(|| {
            let code = PARTS.concat();
            let name = format!("to_{:08x}", crc32c::crc32c(code.as_bytes()));
            let source = format!("#!lua name={name}\n{}", code.replace("NAME", &name));
            let functions = ["run", "grow", "pools", "room", "labels", "quota"];
            let functions = functions.map(|function| format!("{name}_{function}"));
            Self { name, source, functions }
        })
    }

    pub(super) fn function(&self, function: Function) -> &str {
        &self.functions[function as usize]
    }
}
