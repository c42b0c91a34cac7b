// A process whose worker threads are participants. It only carries their messages: `[index of the thread, message]`.
import { Worker } from 'node:worker_threads'
import { monotonicMs, type Order, type Report } from './protocol.ts'

const [threads = '1', briefing = ''] = process.argv.slice(2)
const program = new URL('./participant.js', import.meta.url)

const workers = Array.from({ length: Number(threads) }, (_, index) => {
  const tell = (report: Report) => process.send?.([index, report])
  const worker = new Worker(program, { argv: [briefing] })
  worker.on('message', tell)
  worker.on('error', (error) => tell({ is: 'failed', message: String(error), atMs: monotonicMs() }))
  return worker
})

process.on('message', ([index, order]: [number, Order]) => workers[index]?.postMessage(order))
process.once('disconnect', () => process.exit())

// Its open channel to the demo would keep this process alive for ever.
let running = workers.length
for (const worker of workers) {
  worker.once('exit', (code) => {
    if (code !== 0) process.exitCode = code
    if (--running === 0) process.disconnect()
  })
}
