// Tells a GGUF file from a login page by its header: magic, version and two counts, all little-endian.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

/** How many bytes `whyNotGguf` needs: magic u32, version u32, tensor count u64, key-value count u64. */
export const ggufHeaderBytes = 24

// Far above any real model (thousands of tensors, hundreds of keys), far below what random bytes would say.
const maxCount = 1_000_000n

// What Git has in place of a large file, and so what a clone without LFS or a `/raw/` address gives:
// https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
const pointerBeginning = 'version https://git-lfs.'

/** Why these first bytes of a file cannot open a GGUF that llama.cpp reads, or `undefined` when they can. */
export function whyNotGguf(head: Uint8Array): string | undefined {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength)
  const text = Buffer.from(head.subarray(0, ggufHeaderBytes)).toString('latin1')
  if (text === pointerBeginning) {
    return 'it is a Git LFS pointer, which only names the model; the file itself is at the address with /resolve/ in place of /raw/, or comes by `git lfs pull`'
  }
  const magic = text.slice(0, 4)
  if (magic !== 'GGUF') return head.length === 0 ? 'it is empty' : `it begins with ${JSON.stringify(magic)}, not "GGUF"`
  if (head.length < ggufHeaderBytes) return `it ends after ${head.length} bytes, inside the header`
  const version = view.getUint32(4, true)
  if (version !== 2 && version !== 3) {
    const swapped = view.getUint32(4, false)
    return swapped === 2 || swapped === 3
      ? 'it is a big-endian GGUF, made for another kind of machine'
      : `its GGUF version is ${version}, and only 2 and 3 can be read`
  }
  const tensors = view.getBigUint64(8, true)
  const keys = view.getBigUint64(16, true)
  if (tensors > maxCount || keys > maxCount) return `its header claims ${tensors} tensors and ${keys} keys`
  return undefined
}
