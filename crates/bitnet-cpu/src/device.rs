//! What a decoder asks of a device, asked of the processor.

use bitnet_core::{Buffer, Purpose};
use bitnet_device::{Batch, Device, DeviceError, KvShape, Observe, PageId, SequenceShape};
use bitnet_model::{MatrixForm, Part, Weight};
use bitnet_quant::QuantizedRows;

use crate::{AttentionScratch, Cpu, CpuPass, CpuSkip, Matrix, RecurrentStates, Rows, Screen, SequenceMemory};

impl Device for Cpu {
    type Matrix = Matrix;
    type Vector = Buffer<f32>;
    type Rows = Rows;
    type Codes = QuantizedRows;
    type Pages = SequenceMemory;
    type Scratch = AttentionScratch;
    type Pass<'a> = CpuPass<'a>;
    type Screen = Screen;
    type Skip = CpuSkip;

    fn matrix(&self, _: Part, name: &str, weight: Weight, form: MatrixForm) -> Result<Matrix, DeviceError> {
        self.place(name, weight, form)
    }

    fn vector(&self, values: &[f32]) -> Result<Buffer<f32>, DeviceError> {
        let mut buffer = self.pool.allocate(Purpose::Weights, values.len())?;
        buffer.copy_from_slice(values);
        Ok(buffer)
    }

    fn is_ternary(&self, matrix: &Matrix) -> bool {
        !matches!(matrix, Matrix::Table(_))
    }

    fn bytes_read(&self, matrix: &Matrix) -> usize {
        match matrix {
            Matrix::Ternary(w) => w.bytes().len(),
            Matrix::Base3(w) => w.bytes().len(),
            Matrix::Lines(w) => w.bytes().len(),
            Matrix::Planes(planes) => planes.iter().map(|w| w.bytes().len()).sum(),
            Matrix::Table(t) => t.byte_len(),
        }
    }

    fn rows(&self, capacity: usize, width: usize) -> Result<Rows, DeviceError> {
        let data = self.pool.allocate(Purpose::State, capacity.saturating_mul(width))?;
        Ok(Rows { data, width })
    }

    fn codes(&self, capacity: usize, width: usize) -> Result<QuantizedRows, DeviceError> {
        Ok(QuantizedRows::new(&self.pool, capacity, width)?)
    }

    fn pages(&self, shape: SequenceShape, context: usize) -> Result<SequenceMemory, DeviceError> {
        SequenceMemory::new(&self.pool, shape, self.kv, context)
    }

    fn page_bytes(&self, pages: &SequenceMemory) -> usize {
        pages.kv.page_bytes()
    }

    fn state_bytes(&self, pages: &SequenceMemory) -> usize {
        pages.recurrent.as_ref().map_or(0, RecurrentStates::state_bytes)
    }

    fn add_state(&self, pages: &mut SequenceMemory) -> Result<(), DeviceError> {
        pages.recurrent.as_mut().map_or(Ok(()), |states| states.add(&self.pool))
    }

    fn add_page(&self, pages: &mut SequenceMemory) -> Result<(), DeviceError> {
        pages.kv.add(&self.pool)
    }

    fn copy_page(&self, pages: &mut SequenceMemory, from: PageId, to: PageId) -> Result<(), DeviceError> {
        pages.kv.copy(from, to);
        Ok(())
    }

    fn scratch(
        &self,
        shape: KvShape,
        heads: usize,
        context: usize,
        tokens: usize,
    ) -> Result<AttentionScratch, DeviceError> {
        AttentionScratch::new(&self.pool, shape, heads, context, tokens)
    }

    fn begin<'a>(
        &'a self,
        batch: Batch<'a>,
        pages: &'a mut SequenceMemory,
        observer: Option<&'a mut (dyn Observe + 'a)>,
    ) -> Result<CpuPass<'a>, DeviceError> {
        Ok(CpuPass { cpu: self, batch, pages, observer })
    }

    fn read<'a>(&self, rows: &'a Rows, count: usize) -> &'a [f32] {
        rows.of(count)
    }
}
