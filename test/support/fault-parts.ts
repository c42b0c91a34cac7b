// What rows of the table of faults are made of: a server's answers, and moments of a download.
import { type Ending, type FaultScene, path } from './faults.ts'
import type { Fault, Part } from './model-server.ts'

export const half = ({ file }: FaultScene): number => Math.floor(file.bytes / 2)

/** The first answer breaks in the middle; those that follow, for the rest, are so. */
export const thenRest = (rest: Fault) => (scene: FaultScene) => [
  { kind: 'cut', atByte: half(scene), times: 1 } as const,
  rest,
]

export const status = (code: number, headers: Record<string, string> = {}, times?: number): Fault => ({
  kind: 'status',
  status: code,
  headers,
  ...(times !== undefined && { times }),
})

export const told = (headers: Record<string, string | null>): Fault => ({ kind: 'headers', headers: () => headers })

/** Other headers for answers to requests for a range. */
export const toldOfRange = (headers: (part: Part) => Record<string, string | null>): Fault => ({
  kind: 'headers',
  headers: (part) => (part.isRange ? headers(part) : {}),
})

/** Does something to a download of which just `atByte` bytes have come, and lets it go on. */
export async function underWay(scene: FaultScene, what: () => void, atByte = half(scene)): Promise<Ending> {
  const { server } = scene
  server.pause(path, atByte)
  const download = scene.get()
  await scene.received(atByte)
  what()
  server.resume(path)
  return download
}
