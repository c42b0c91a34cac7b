// The parts of the built package that users reach only through the gate, for tests that must do without its lock.
export { darwinFiles } from '#download/disk/darwin-files'
export { takeRoom } from '#download/disk/free-space'
export { win32Files } from '#download/disk/win32-files'
export { ModelDownloadError } from '#download/errors'
export { downloadFile } from '#download/file'
export { whyNotGguf } from '#download/gguf/header'
export { refusalWords, retryAfterOf, secretsOf } from '#download/http/answer-words'

export { checkDispatcher } from '#download/http/dispatcher'
export { proxiesOf } from '#download/http/proxies'
export { decodeMap, encodeMap } from '#download/partial/extent-map'
export { Extents } from '#download/partial/extents'
export { pruneFolder } from '#download/partial/prune'
export { decodeRecord, encodeRecord, type PartialRecord } from '#download/partial/record'
export type { DownloadProgress } from '#download/progress'
export { findPublished } from '#download/published/existing'
export { type PublishedFile, verifyPublished } from '#download/published/verify'
export { modelPathOf } from '#download/source/local-path'
export type { ModelSource, ResolvedSource } from '#download/source/parse'
export { resolveRequest, resolveSource } from '#download/source/resolve'

const { holdFile } = (await import(
  new URL('./mutex/file-hold.js', import.meta.resolve('os-mutex')).href
)) as typeof import('../../dist/mutex/file-hold.js')

export { ownNameOf, partialPaths } from '#download/disk/file-names'
export { readGroup } from '#download/published/group'
export { readManifest } from '#download/published/manifest'
export { holdFile }
