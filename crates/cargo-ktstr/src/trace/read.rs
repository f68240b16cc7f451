//! Decodes protocol buffers, so that tests can compare a trace with its schedule.

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    #[track_caller]
    pub fn number(self) -> u64 {
        match self {
            Value::Number(number) => number,
            other => panic!("{other:?} is not a number"),
        }
    }

    #[track_caller]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            other => panic!("{other:?} is no message"),
        }
    }
}

/// Returns the fields of a message, in order.
#[track_caller]
pub fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let head = varint(&mut bytes);
        let value = match head & 7 {
            0 => Value::Number(varint(&mut bytes)),
            1 => {
                let (word, rest) = bytes.split_first_chunk::<8>().expect("eight bytes");
                bytes = rest;
                Value::Fixed(u64::from_le_bytes(*word))
            }
            2 => {
                let length = varint(&mut bytes) as usize;
                let (part, rest) = bytes.split_at(length);
                bytes = rest;
                Value::Bytes(part)
            }
            wire => panic!("nothing writes the wire type {wire}"),
        };
        fields.push((head >> 3, value));
    }
    fields
}

/// Returns the last value of a field; `None` if the message does not have the field.
pub fn field(bytes: &[u8], number: u64) -> Option<Value<'_>> {
    let all = fields(bytes).into_iter().rev();
    all.filter(|(field, _)| *field == number)
        .map(|(_, value)| value)
        .next()
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("a number has a last byte");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a number has ten bytes at most");
}

/// Returns the CPU time of each task in nanoseconds, from the switches of a trace: the time from each switch to the task
/// until the next switch on the same CPU.
pub fn cpu_time(trace: &[u8]) -> std::collections::BTreeMap<u64, u64> {
    let mut switches = Vec::new();
    let ftrace = fields(trace)
        .into_iter()
        .filter_map(|(_, packet)| field(packet.bytes(), 1));
    for bundle in ftrace.map(Value::bytes) {
        let cpu = field(bundle, 1).map_or(0, Value::number);
        let events = fields(bundle)
            .into_iter()
            .filter(|(number, _)| *number == 2);
        for event in events.map(|(_, event)| event.bytes()) {
            if let Some(switch) = field(event, 4).map(Value::bytes) {
                let time = field(event, 1).expect("an event has its time").number();
                let next = field(switch, 6).expect("a switch has its task").number();
                switches.push((cpu, time, next));
            }
        }
    }
    // The sort is stable, so events with the same time keep their order.
    switches.sort_by_key(|(cpu, time, _)| (*cpu, *time));
    let mut sums = std::collections::BTreeMap::new();
    for pair in switches.windows(2) {
        let ((cpu, from, task), (other, to, _)) = (pair[0], pair[1]);
        if cpu == other && task != 0 {
            *sums.entry(task).or_insert(0) += to - from;
        }
    }
    sums
}
