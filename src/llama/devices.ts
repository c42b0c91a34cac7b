// Which GPUs' memory a call may use.
import type { GateSettings } from './gate-options.ts'
import { deviceMutexName } from './mutex-names.ts'
import type { Llama } from './node-llama-cpp.ts'

/**
 * The names of their mutexes, each once and in the order in which all processes lock them. With `deviceLock: true` an
 * instance without a GPU has a device as well, the CPU.
 */
export async function deviceMutexNames(llama: Llama, { deviceLock, prefix }: GateSettings): Promise<string[]> {
  if (deviceLock === false || (deviceLock === 'auto' && llama.gpu === false)) return []
  const devices = llama.gpu === false ? ['cpu'] : await llama.getGpuDeviceNames()
  return [...new Set(devices)].sort().map((device) => deviceMutexName(prefix, device))
}
