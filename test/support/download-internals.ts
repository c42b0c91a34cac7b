// The parts of the built package that users reach only through the gate, for tests that must do without its lock.
export { darwinFiles } from '#download/darwin-files'
export { downloadFile } from '#download/download'
export { ModelDownloadError } from '#download/errors'
export type { DownloadProgress } from '#download/progress'
export { findPublished, type PublishedModel, verifyPublished } from '#download/published'
export { type ModelSource, resolveSource } from '#download/source'
export { win32Files } from '#download/win32-files'
