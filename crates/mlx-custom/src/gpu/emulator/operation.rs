//! A launch as an operation of the CPU.

use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use super::abi::{self, WorkerResult};
use super::arrays::Arrays;
use super::counters::{self, KernelCounters};
use super::library::{self, Library};
use super::report::{self, Names};
use super::results;
use super::source::{self, Parameter};
use super::workers::WorkerMemory;
use crate::gpu::{GpuKernel, Lowered, TemplateValue};
use crate::{CpuOperation, Layout, OperationError, Tensor, TensorMut, TensorType, num_threads, parallel_for};

/// Each worker has 1024 stacks with a guard page each, and the system allows some ten thousand separate ranges of pages.
const MAX_WORKERS: usize = 16;

/// A kernel with all that a launch says about it.
pub(super) struct Emulation {
    pub kernel: GpuKernel,
    pub lowered: Lowered,
    pub template: Vec<(&'static str, TemplateValue)>,
    pub outputs: Vec<TensorType>,
    pub threadgroups: [u32; 3],
    pub threads: [u32; 3],
    pub fill: Option<f32>,
    pub is_checked: bool,
}

/// What one run of all threadgroups gave.
struct Outcome {
    results: Vec<WorkerResult>,
    needs_fibers: bool,
    /// Of the first SIMD group.
    accesses: Vec<abi::Access>,
}

impl CpuOperation for Emulation {
    fn name(&self) -> &'static str {
        self.kernel.name
    }

    fn outputs(&self, _inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        Ok(self.outputs.clone())
    }

    fn layout(&self, _input: usize) -> Layout {
        if self.kernel.strided { Layout::Strided } else { Layout::Contiguous }
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
        let library = self.compile(inputs)?;
        if self.threads.contains(&0) || self.threadgroups.contains(&0) {
            return Ok(());
        }
        if self.is_checked {
            self.run_watched(&library, inputs, outputs)
        } else {
            self.run_freely(&library, inputs, outputs)
        }
    }
}

impl Emulation {
    fn compile(&self, inputs: &[Tensor<'_>]) -> Result<std::sync::Arc<Library>, OperationError> {
        let types: Vec<TensorType> = inputs.iter().map(|input| TensorType::new(input.shape(), input.dtype())).collect();
        let inputs = self.kernel.inputs.iter().zip(&types);
        let outputs = self.kernel.outputs.iter().zip(&self.outputs);
        let inputs: Vec<Parameter<'_>> = inputs.map(|(name, tensor)| Parameter { name, tensor }).collect();
        let outputs: Vec<Parameter<'_>> = outputs.map(|(name, tensor)| Parameter { name, tensor }).collect();
        let source = source::kernel(&self.kernel, &self.lowered, &inputs, &outputs, &self.template);
        library::load(&source, self.is_checked, &format!("the kernel {}", self.kernel.name))
    }

    fn run_freely(
        &self,
        library: &Library,
        inputs: &[Tensor<'_>],
        outputs: &mut [TensorMut<'_>],
    ) -> Result<(), OperationError> {
        let mut arrays = Arrays::direct(inputs, outputs, self.fill);
        let mut outcome = self.run_groups(library, &mut arrays, inputs, source::waits(&self.lowered), num_threads())?;
        if outcome.needs_fibers {
            outcome = self.run_groups(library, &mut arrays, inputs, true, num_threads())?;
        }
        self.judge(&outcome, &arrays, library)
    }

    /// Runs the kernel on copies of the arrays; they reach the outputs if nothing was found.
    fn run_watched(
        &self,
        library: &Library,
        inputs: &[Tensor<'_>],
        outputs: &mut [TensorMut<'_>],
    ) -> Result<(), OperationError> {
        let names: Vec<&str> = self.kernel.inputs.iter().chain(self.kernel.outputs).copied().collect();
        let run = |uses_fibers: bool, n_workers: usize| {
            let mut arrays = Arrays::watched(&names, inputs, outputs, self.fill)?;
            let outcome = self.run_groups(library, &mut arrays, inputs, uses_fibers, n_workers)?;
            Ok::<_, OperationError>((outcome, arrays))
        };
        let mut uses_fibers = source::waits(&self.lowered);
        let (mut outcome, mut arrays) = run(uses_fibers, num_threads())?;
        if outcome.needs_fibers {
            uses_fibers = true;
            (outcome, arrays) = run(uses_fibers, num_threads())?;
        }
        if let Err(error) = self.judge(&outcome, &arrays, library) {
            // Which of many findings comes first depends on who was faster. One worker alone always finds the same.
            if outcome.results.len() > 1 {
                let (outcome, arrays) = run(uses_fibers, 1)?;
                self.judge(&outcome, &arrays, library)?;
            }
            return Err(error);
        }
        arrays.copy_outputs(outputs);
        let counters = self.count(&outcome, &arrays);
        results::append(&counters)?;
        counters::record(counters);
        Ok(())
    }

    fn run_groups(
        &self,
        library: &Library,
        arrays: &mut Arrays,
        inputs: &[Tensor<'_>],
        uses_fibers: bool,
        n_workers: usize,
    ) -> Result<Outcome, OperationError> {
        let shapes: Vec<Vec<i32>> =
            inputs.iter().map(|input| input.shape().iter().map(|&len| len as i32).collect()).collect();
        let mut arguments: Vec<*const c_void> = arrays.origins().collect();
        for (input, shape) in inputs.iter().zip(&shapes) {
            arguments.push(shape.as_ptr().cast());
            arguments.push(input.strides().as_ptr().cast());
        }
        let launch = abi::Launch {
            entry: library.entry,
            arguments: arguments.as_ptr(),
            threadgroups: self.threadgroups,
            threads: self.threads,
            uses_fibers: u32::from(uses_fibers),
            is_checked: u32::from(self.is_checked),
            n_arrays: arrays.raw.len() as u32,
            arrays: arrays.raw.as_mut_ptr(),
            shift: arrays.shift,
            base: arrays.base,
        };
        let n_groups: u64 = self.threadgroups.iter().map(|&n| u64::from(n)).product();
        let n_workers = n_workers.min(MAX_WORKERS).min(usize::try_from(n_groups).unwrap_or(MAX_WORKERS)).max(1);
        let mut workers = Vec::with_capacity(n_workers);
        for _ in 0..n_workers {
            let memory =
                WorkerMemory::take().map_err(|error| format!("no memory for the stacks of 1024 threads: {error}"))?;
            workers.push(Mutex::new((memory, WorkerResult::new(), 0)));
        }

        let shared = Shared { launch: &launch, next: &mut 0 };
        parallel_for(n_workers, |i| {
            let shared = &shared;
            let mut worker = workers[i].lock().unwrap_or_else(PoisonError::into_inner);
            let (memory, result, status) = &mut *worker;
            let memory = memory.raw(self.is_checked);
            // SAFETY: the library was compiled for this launch's arrays; all that `launch` points to outlives the call; memory and
            // result belong to this worker, and `next` is changed atomically. In checked mode all accesses lie in
            // memory that the emulator owns; unchecked, the kernel's author vouches for them.
            *status = unsafe { (library.run)(shared.launch, &memory, shared.next, &mut **result) };
        });

        let mut outcome = Outcome { results: Vec::new(), needs_fibers: false, accesses: Vec::new() };
        for worker in workers {
            let (memory, result, status) = worker.into_inner().unwrap_or_else(PoisonError::into_inner);
            outcome.needs_fibers |= status == 1;
            if result.n_accesses > 0 {
                outcome.accesses = memory.accesses(result.n_accesses).to_vec();
            }
            outcome.results.push(*result);
            memory.give_back();
        }
        Ok(outcome)
    }

    /// The first finding, if there is one, as an error.
    fn judge(&self, outcome: &Outcome, arrays: &Arrays, library: &Library) -> Result<(), OperationError> {
        let names = Names { kernel: &self.kernel, lowered: &self.lowered, threadgroups: self.threadgroups };
        let found = outcome.results.iter().filter(|result| result.n_findings > 0);
        if let Some(result) = found.min_by_key(|result| result.first.threadgroup) {
            let n_more = outcome.results.iter().map(|result| result.n_findings).sum::<u64>() - 1;
            return Err(report::finding(&names, &result.first, n_more, arrays, result, library).into());
        }
        match arrays.unwritten() {
            Some((number, element, count)) if self.is_checked => {
                Err(report::unwritten(&names, number, element, count).into())
            }
            _ => Ok(()),
        }
    }

    fn count(&self, outcome: &Outcome, arrays: &Arrays) -> KernelCounters {
        let results: Vec<&abi::Counters> = outcome.results.iter().map(|result| &result.counters).collect();
        let mut counters = counters::sum(self.kernel.name, &results, &outcome.accesses);
        (counters.device_bytes_read_distinct, counters.device_bytes_written_distinct) = arrays.distinct();
        let threadgroups = self.threadgroups.map(u64::from);
        counters.threadgroup = self.threads.map(u64::from);
        counters.grid = std::array::from_fn(|axis| threadgroups[axis] * counters.threadgroup[axis]);
        counters.threads = counters.grid.iter().product();
        counters.threadgroups = threadgroups.iter().product();
        counters
    }
}

/// What all workers of a launch use at once.
struct Shared<'a> {
    launch: &'a abi::Launch,
    next: *mut u64,
}

// SAFETY: the launch is read only, but for the notes about arrays, which the runtime changes atomically; so it does `next`.
unsafe impl Sync for Shared<'_> {}
