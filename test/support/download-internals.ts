// The parts of the built package that users reach only through the gate, for tests that must do without its lock. They
// come from dist/, and not compiled once more from src/, because the addon is found from where the built package lies.
type Download = typeof import('../../dist/download/download.js')
type Errors = typeof import('../../dist/download/errors.js')
type Published = typeof import('../../dist/download/published.js')
type Source = typeof import('../../dist/download/source.js')

export type { DownloadProgress } from '../../dist/download/progress.js'
export type { PublishedModel } from '../../dist/download/published.js'
export type { ModelSource } from '../../dist/download/source.js'

async function load<T>(name: string): Promise<T> {
  // From out/test/support/, where this file runs.
  return (await import(new URL(`../../../dist/download/${name}.js`, import.meta.url).href)) as T
}

export const { downloadFile } = await load<Download>('download')
export const { ModelDownloadError } = await load<Errors>('errors')
export const { findPublished, verifyPublished } = await load<Published>('published')
export const { resolveSource } = await load<Source>('source')
