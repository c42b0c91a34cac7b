// From one owner to the next, timed: both sides answer lines as the peers in bench/peer do.
import type { LineProcess } from './line-process.ts'

/** Resolves when the waiter is blocked in the kernel. */
export type UntilBlocked = (waiter: LineProcess) => Promise<void>

/** Microseconds from the holder's release to the waiter's owning, `count` times. */
export async function handOffs(
  holder: LineProcess,
  waiter: LineProcess,
  count: number,
  untilBlocked: UntilBlocked,
): Promise<number[]> {
  const times: number[] = []
  for (let round = 0; round < count; round++) {
    await holder.ask('lock')
    waiter.send('lock')
    await untilBlocked(waiter)
    const released = BigInt(await holder.ask('unlock'))
    times.push(Number(BigInt(await waiter.next()) - released) / 1000)
    waiter.send('unlock')
  }
  return times
}

/** Microseconds from the kill of a holder to the waiter's owning. */
export async function afterKill(victim: LineProcess, waiter: LineProcess, untilBlocked: UntilBlocked): Promise<number> {
  await victim.ask('lock')
  waiter.send('lock')
  await untilBlocked(waiter)
  const killed = await victim.kill()
  const tookUs = Number(BigInt(await waiter.next()) - killed) / 1000
  waiter.send('unlock')
  return tookUs
}
