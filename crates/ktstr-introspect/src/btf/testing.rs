//! Builds small BTF blobs for tests.

/// A BTF blob under construction; ids are handed out from 1 on.
#[derive(Default)]
pub(crate) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    next: u32,
}

impl Builder {
    pub fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            next: 1,
        }
    }

    /// Adds a string and returns its offset in the string section.
    pub fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    /// Adds a record and returns its id. `kind` is a number of `BTF_KIND_*`. `size` is the size of the type, or the id of
    /// the type that the record refers to. `rest` has the words after the common header.
    pub fn raw(
        &mut self,
        name: &str,
        kind: u32,
        flag: bool,
        vlen: u32,
        size: u32,
        rest: &[u32],
    ) -> u32 {
        let name = self.string(name);
        let info = kind << 24 | vlen | u32::from(flag) << 31;
        for word in [name, info, size].iter().chain(rest) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.next += 1;
        self.next - 1
    }

    /// Adds an integer. The bits of `encoding` are 1 for signed, 2 for char, and 4 for bool.
    pub fn int(&mut self, name: &str, bytes: u32, encoding: u32) -> u32 {
        self.raw(name, 1, false, 0, bytes, &[(encoding << 24) | (bytes * 8)])
    }

    pub fn ptr(&mut self, target: u32) -> u32 {
        self.raw("", 2, false, 0, target, &[])
    }

    pub fn array(&mut self, element: u32, len: u32) -> u32 {
        self.raw("", 3, false, 0, 0, &[element, element, len])
    }

    /// Adds a struct. The members are (name, type id, offset in bits).
    pub fn record(&mut self, name: &str, bytes: u32, members: &[(&str, u32, u32)]) -> u32 {
        let mut rest = Vec::new();
        for (name, ty, offset) in members {
            rest.extend([self.string(name), *ty, *offset]);
        }
        self.raw(name, 4, false, members.len() as u32, bytes, &rest)
    }

    /// Adds a struct with bit-fields. The members are (name, type id, offset in bits, width in bits); a width of 0 stands for
    /// a plain member.
    pub fn bitfields(&mut self, name: &str, bytes: u32, members: &[(&str, u32, u32, u32)]) -> u32 {
        let mut rest = Vec::new();
        for (name, ty, offset, bits) in members {
            rest.extend([self.string(name), *ty, bits << 24 | offset]);
        }
        self.raw(name, 4, true, members.len() as u32, bytes, &rest)
    }

    pub fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> u32 {
        let mut rest = Vec::new();
        for (name, value) in values {
            rest.extend([self.string(name), *value]);
        }
        self.raw(name, 6, false, values.len() as u32, 4, &rest)
    }

    pub fn enumeration64(&mut self, name: &str, values: &[(&str, u64)]) -> u32 {
        let mut rest = Vec::new();
        for (name, value) in values {
            rest.extend([self.string(name), *value as u32, (*value >> 32) as u32]);
        }
        self.raw(name, 19, false, values.len() as u32, 8, &rest)
    }

    pub fn typedef(&mut self, name: &str, target: u32) -> u32 {
        self.raw(name, 8, false, 0, target, &[])
    }

    /// Adds a struct that is only declared.
    pub fn forward(&mut self, name: &str) -> u32 {
        self.raw(name, 7, false, 0, 0, &[])
    }

    pub fn type_tag(&mut self, name: &str, target: u32) -> u32 {
        self.raw(name, 18, false, 0, target, &[])
    }

    pub fn var(&mut self, name: &str, ty: u32) -> u32 {
        self.raw(name, 14, false, 0, ty, &[1])
    }

    /// Adds a section. The variables are (id of the variable's type, offset in bytes, size in bytes).
    pub fn datasec(&mut self, name: &str, bytes: u32, vars: &[(u32, u32, u32)]) -> u32 {
        let rest: Vec<u32> = vars
            .iter()
            .flat_map(|(id, at, size)| [*id, *at, *size])
            .collect();
        self.raw(name, 15, false, vars.len() as u32, bytes, &rest)
    }

    pub fn finish(self) -> Vec<u8> {
        // The header: magic number, version and flags, then its own length, and (offset, length) of both sections.
        let mut blob = vec![0x9f, 0xeb, 1, 0];
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for word in [24, 0, types, types, strings] {
            blob.extend_from_slice(&u32::to_le_bytes(word));
        }
        blob.extend(self.types);
        blob.extend(self.strings);
        blob
    }
}
