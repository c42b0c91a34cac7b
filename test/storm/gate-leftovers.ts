// What may lie in a models folder when all is well again, and nobody reads an old version any more.
import { readdirSync } from 'node:fs'
import { basename, join, relative } from 'node:path'
import { readGroup } from '../support/download-internals.ts'
import type { Model } from './gate-model.ts'

/** All else. Locks stay where they are. */
export async function leftAfterPrune(folder: string, models: readonly Model[]): Promise<string[]> {
  const right = new Set((await Promise.all(models.map((model) => filesOf(folder, model)))).flat())
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .filter((name) => !name.startsWith('.locks/') && !right.has(name))
}

/** A model, and what is known of it. A split one lies where its note says. */
async function filesOf(folder: string, model: Model): Promise<string[]> {
  const names = model.parts.map(({ destination }) => basename(destination))
  const withManifests = (within: string) => names.flatMap((name) => [join(within, name), join(within, manifest(name))])
  if (!model.isSplit) return withManifests('')
  const note = await readGroup(join(folder, basename(model.destination)))
  return [`.${basename(model.destination)}.os-mutex-group.json`, ...withManifests(note?.folder ?? '')]
}

function manifest(name: string): string {
  return `.${name}.os-mutex.json`
}
