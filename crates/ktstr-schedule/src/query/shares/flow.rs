//! Checks whether an allocation fits on the CPUs: a flow from tasks to CPUs, restricted by affinity.

use super::fill::Consumer;

/// The tolerance for rounding errors of times, in nanoseconds.
const EPSILON_NS: f64 = 50.0;

/// A set of CPUs that cannot provide the CPU time that tasks want from them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Blocked {
    /// The CPUs. Every task that may run only on these is blocked.
    pub(super) cpus: u128,
    /// The total CPU time of these CPUs, in nanoseconds.
    pub(super) room: f64,
}

/// A class or a cell. A class is all tasks that have the same affinity, and the CPU time that they want together. A cell is all
/// CPUs on which the same classes may run, and the CPU time that these CPUs have together. Times are in nanoseconds.
#[derive(Debug)]
struct Pool {
    mask: u128,
    amount: f64,
}

/// Returns a set of CPUs that cannot provide the CPU time that the tasks confined to it want; `None` if `wanted` fits.
pub(super) fn blocked(consumers: &[Consumer], wanted: &[f64], capacity: &[f64]) -> Option<Blocked> {
    let there = match capacity.len() {
        128.. => u128::MAX,
        count => (1 << count) - 1,
    };
    let mut classes: Vec<Pool> = Vec::new();
    for (consumer, amount) in consumers.iter().zip(wanted) {
        let mask = consumer.mask & there;
        match classes.iter_mut().find(|class| class.mask == mask) {
            Some(class) => class.amount += amount,
            None => classes.push(Pool {
                mask,
                amount: *amount,
            }),
        }
    }
    let mut cells: Vec<(Vec<bool>, Pool)> = Vec::new();
    for (cpu, room) in capacity.iter().enumerate() {
        let bit = 1u128 << cpu;
        let of: Vec<bool> = classes.iter().map(|class| class.mask & bit != 0).collect();
        match cells.iter_mut().find(|(known, _)| *known == of) {
            Some((_, cell)) => {
                cell.mask |= bit;
                cell.amount += room;
            }
            None => cells.push((
                of,
                Pool {
                    mask: bit,
                    amount: *room,
                },
            )),
        }
    }
    let reached = Flow::new(&classes, &cells).saturate()?;
    let cpus = cells.iter().zip(&reached).filter(|(_, reached)| **reached);
    let (cpus, room) = cpus.fold((0, 0.0), |(cpus, room), ((_, cell), _)| {
        (cpus | cell.mask, room + cell.amount)
    });
    // The set also contains all CPUs that do not exist. They have no capacity, and a task whose mask contains such CPUs must
    // still count as confined to the set.
    Some(Blocked {
        cpus: cpus | !there,
        room,
    })
}

/// A flow from classes of tasks to cells of CPUs.
struct Flow<'a> {
    classes: &'a [Pool],
    cells: &'a [(Vec<bool>, Pool)],
    /// The flow by class and cell.
    flow: Vec<Vec<f64>>,
    left: Vec<f64>,
    room: Vec<f64>,
}

impl<'a> Flow<'a> {
    fn new(classes: &'a [Pool], cells: &'a [(Vec<bool>, Pool)]) -> Self {
        Self {
            classes,
            cells,
            flow: vec![vec![0.0; cells.len()]; classes.len()],
            left: classes.iter().map(|class| class.amount).collect(),
            room: cells.iter().map(|(_, cell)| cell.amount).collect(),
        }
    }

    /// Sends the whole flow. Returns `None` if everything fits. Otherwise returns, for each cell, whether it belongs
    /// to a set of full cells. The tasks that may run only on the CPUs of this set want more than these CPUs have.
    fn saturate(mut self) -> Option<Vec<bool>> {
        for class in 0..self.classes.len() {
            while self.left[class] > EPSILON_NS {
                if let Err(reached) = self.augment(class) {
                    return Some(reached);
                }
            }
        }
        None
    }

    /// Sends a part of what remains of `class` along a shortest path that has room at its end. If there is none,
    /// returns the cells that were reached as the error.
    fn augment(&mut self, class: usize) -> Result<(), Vec<bool>> {
        // The class from which each cell was reached, and the cell from which each class was reached.
        let mut cell_from: Vec<Option<usize>> = vec![None; self.cells.len()];
        let mut class_from: Vec<Option<usize>> = vec![None; self.classes.len()];
        let mut queue = std::collections::VecDeque::from([class]);
        while let Some(at) = queue.pop_front() {
            for cell in 0..self.cells.len() {
                if cell_from[cell].is_some() || !self.cells[cell].0[at] {
                    continue;
                }
                cell_from[cell] = Some(at);
                if self.room[cell] > 0.0 {
                    self.send(class, cell, &cell_from, &class_from);
                    return Ok(());
                }
                for (back, from) in class_from.iter_mut().enumerate() {
                    if back != class && from.is_none() && self.flow[back][cell] > 0.0 {
                        *from = Some(cell);
                        queue.push_back(back);
                    }
                }
            }
        }
        Err(cell_from.iter().map(Option::is_some).collect())
    }

    fn send(
        &mut self,
        class: usize,
        end: usize,
        cell_from: &[Option<usize>],
        class_from: &[Option<usize>],
    ) {
        // The path from its end to its start. Each step has a class, the cell to which the class sends more, and the cell to
        // which it sends less in return.
        let mut path = Vec::new();
        let mut cell = end;
        while let Some(at) = cell_from[cell] {
            let back = class_from[at].filter(|_| at != class);
            path.push((at, cell, back));
            match back {
                Some(before) => cell = before,
                None => break,
            }
        }
        let taken = path
            .iter()
            .filter_map(|(at, _, back)| back.map(|back| self.flow[*at][back]));
        let amount = taken.fold(self.left[class].min(self.room[end]), f64::min);
        for (at, to, back) in path {
            self.flow[at][to] += amount;
            if let Some(back) = back {
                self.flow[at][back] -= amount;
            }
        }
        self.left[class] -= amount;
        self.room[end] -= amount;
    }
}
