// A stand-in for Electron's asar support, to be preloaded into a plain Node by --import. Of what Electron overrides
// (https://github.com/electron/electron/blob/main/lib/node/asar-fs-wrapper.ts) it does what an addon's way to process.dlopen needs:
//
// - fs shows the files of an archive, also those that are unpacked and so not in it, under the archive's own path;
// - process.dlopen and require of a .node file open an unpacked file in app.asar.unpacked instead, and a packed one in a copy
//   in the temporary folder (Archive::CopyFileOut).
//
// It differs in one thing: JavaScript is not read out of the archive, for which Electron patches Node itself. It lies extracted in a
// folder called app.asar, beside the archive, which is app.asar.archive here.
import fs from 'node:fs'
import Module from 'node:module'
import os from 'node:os'
import path from 'node:path'
import asar from '@electron/asar'

interface Entry {
  readonly files?: Readonly<Record<string, Entry>>
  readonly unpacked?: boolean
}

const root = process.env.ASAR_STAND_IN ?? ''
const archive = `${root}.archive`
const header = asar.getRawHeader(archive).header as Entry

/** The archive's entry for a path under app.asar. */
function entryOf(file: unknown): Entry | undefined {
  if (typeof file !== 'string' || !file.startsWith(root + path.sep)) return undefined
  let entry: Entry | undefined = header
  for (const name of path.relative(root, file).split(path.sep)) entry = entry?.files?.[name]
  return entry
}

function copyFileOut(file: string): string {
  const entry = entryOf(file)
  if (entry === undefined || entry.files !== undefined) return file
  const inArchive = path.relative(root, file)
  if (entry.unpacked === true) return path.join(`${root}.unpacked`, inArchive)
  const copy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'os-mutex-test-asar-')), path.basename(file))
  fs.writeFileSync(copy, asar.extractFile(archive, inArchive))
  return copy
}

type Function = (this: unknown, ...args: unknown[]) => unknown

function override(owner: object, name: string, by: (original: Function) => Function): void {
  const functions = owner as Record<string, Function>
  const original = functions[name]
  if (original !== undefined) functions[name] = by(original)
}

const { existsSync } = fs
override(fs, 'existsSync', (original) => (file) => entryOf(file) !== undefined || original(file))
override(fs, 'readdirSync', (original) => (directory, ...rest) => {
  const names = entryOf(directory)?.files
  return names === undefined ? original(directory, ...rest) : Object.keys(names)
})
for (const name of ['statSync', 'lstatSync', 'accessSync', 'openSync', 'readFileSync']) {
  override(fs, name, (original) => (file, ...rest) => {
    const isElsewhere = typeof file === 'string' && entryOf(file) !== undefined && !existsSync(file)
    return original(isElsewhere ? copyFileOut(file) : file, ...rest)
  })
}
// Electron does it one layer below, in internalModuleStat.
override(Module, '_resolveFilename', (original) => (request, ...rest) => {
  const isFile = typeof request === 'string' && entryOf(request) !== undefined && entryOf(request)?.files === undefined
  return isFile ? request : original(request, ...rest)
})

/** The files that were opened as addons, for the test to see. */
const opened: string[] = []
Object.assign(globalThis, { asarStandInOpened: opened })
override(process, 'dlopen', (original) => (module, file, ...rest) => {
  const real = copyFileOut(String(file))
  opened.push(real)
  return original.call(process, module, real, ...rest)
})
const extensions = (Module as unknown as { _extensions: object })._extensions
override(extensions, '.node', (original) => (module, file) => original(module, copyFileOut(String(file))))
Module.syncBuiltinESMExports()
