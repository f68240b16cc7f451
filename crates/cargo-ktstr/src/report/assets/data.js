// Decodes what src/report/pack.rs encoded; the layout is described there. Times are nanoseconds since the schedule began.
const run = JSON.parse(document.getElementById("data").textContent);
const RAN = 0, WAITED = 1, THROTTLED = 2, SEVERAL = 3;
const THEN = ["", "slept", "was preempted", "yielded", "exited", "idled"];
const CLASS = ["", "stop", "deadline", "real-time", "fair", "sched_ext", "idle"];
const CAUSE = ["", "was woken", "was made", "was preempted", "yielded", "got a new quota"];

function unpacked(count, text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  let at = 0;
  const number = () => {
    let value = 0, scale = 1, byte;
    do {
      byte = bytes[at++];
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte > 127);
    return value;
  };
  const s = {
    from: new Float64Array(count), to: new Float64Array(count), kind: new Uint8Array(count),
    // `task` is the index of the task, or the number of merged stretches for SEVERAL. `more` has the reason for the stop and the
    // class for RAN, and the cause and whether the task got a CPU for WAITED. `by` is the waker for WAITED.
    task: new Uint32Array(count), cpu: new Uint16Array(count), more: new Uint8Array(count), by: new Uint32Array(count),
    // The moves of a wait to other runqueues, each as the time and the CPU; only waits with moves have an entry.
    moves: new Map(),
  };
  let from = 0;
  for (let i = 0; i < count; i++) {
    from += number();
    s.from[i] = from;
    s.to[i] = from + number();
    const head = number();
    s.kind[i] = head % 4;
    s.task[i] = Math.floor(head / 4);
    if (s.kind[i] !== THROTTLED) s.cpu[i] = number();
    if (s.kind[i] === RAN || s.kind[i] === WAITED) s.more[i] = number();
    if (s.kind[i] === WAITED) {
      s.by[i] = number();
      const moves = [];
      for (let left = number(); left > 0; left--) moves.push([from + number(), number()]);
      if (moves.length > 0) s.moves.set(i, moves);
    }
  }
  return s;
}

const s = run ? unpacked(run.count, run.stretches) : null;
// The indices of the stretches of each CPU and of each task, in the order of their starts.
const ofCpu = run ? run.cpus.map(() => []) : [];
const ofTask = run ? run.tasks.map(() => []) : [];
for (let i = 0; run && i < run.count; i++) {
  if ((s.kind[i] === RAN || s.kind[i] === SEVERAL) && ofCpu[s.cpu[i]]) ofCpu[s.cpu[i]].push(i);
  if (s.kind[i] !== SEVERAL && ofTask[s.task[i]]) ofTask[s.task[i]].push(i);
}

// Returns the position in `list` of the first stretch that ends after `time`, or the length of `list` if there is none.
function after(list, time) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (s.to[list[middle]] > time) high = middle; else low = middle + 1;
  }
  return low;
}

// Returns the stretch of `list` that covers `time`, or -1 if there is none.
function during(list, time) {
  const i = list[after(list, time)];
  return i !== undefined && s.from[i] <= time ? i : -1;
}
