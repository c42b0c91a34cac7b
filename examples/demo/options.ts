import { parseArgs } from 'node:util'

export interface DemoOptions {
  /** A real model; undefined for the demo's own, from its own server. */
  readonly source: string | undefined
  readonly bytes: number
  readonly bytesPerSecond: number
}

export const usage = `npm run demo [-- options]
    with a small model of random weights, from a slow local server
npm run demo -- <url or hf:user/repo/file.gguf>
    with a real model, from where it is

Seven processes and two worker threads want one model at the same time. One of
them is killed while it downloads and one while it loads. The others recover,
and at the end the demo checks that they did: it exits with 0 if every promise
was kept, with 1 if one was broken.

All files are in a temporary folder (see TMPDIR), which is removed at the end.

  --size <n>MiB   size of the random model (48MiB; at least 1MiB)
  --rate <n>MiB   what the local server sends in a second (8MiB; at most half of
                  the size, to leave time for a kill)
  --help          this text`

export class UsageError extends Error {}

/** `undefined` when only help is asked for. */
export function readOptions(args: readonly string[]): DemoOptions | undefined {
  const { values, positionals } = parse(args)
  if (values.help) return undefined
  if (positionals.length > 1) throw new UsageError(`One model at most, not ${positionals.length}`)
  const [source] = positionals
  if (source !== undefined && (values.size !== undefined || values.rate !== undefined)) {
    throw new UsageError('--size and --rate are for the local server, and so not for a model of your own')
  }
  const bytes = readSize('--size', values.size ?? '48MiB')
  const bytesPerSecond = readSize('--rate', values.rate ?? '8MiB')
  if (bytes < 2 ** 20) throw new UsageError('--size must be at least 1MiB')
  if (bytesPerSecond > bytes / 2)
    throw new UsageError('--rate must leave time for a kill in mid-download: at most half of --size')
  return { source, bytes, bytesPerSecond }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { size: { type: 'string' }, rate: { type: 'string' }, help: { type: 'boolean' } },
    })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function readSize(option: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)(KiB|MiB|GiB)$/i.exec(text)
  if (match === null) throw new UsageError(`${option} must be a size like 48MiB, not ${JSON.stringify(text)}`)
  const unit = { kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30 }[match[2]?.toLowerCase() ?? ''] ?? 1
  return Math.round(Number(match[1]) * unit)
}
