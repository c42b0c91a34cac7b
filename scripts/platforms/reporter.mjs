// Reporter of Node's test runner: one line of JSON for each test that begins or ends, and one at the end of all.
import { inspect } from 'node:util'

// biome-ignore lint/style/noDefaultExport: Node asks for it
export default async function* reporter(events) {
  for await (const { type, data } of events) {
    if (type === 'test:dequeue') yield line({ begins: data.name })
    if ((type !== 'test:pass' && type !== 'test:fail') || data.details?.type === 'suite') continue
    if (data.skip !== undefined) yield line({ name: data.name, outcome: 'skipped', reason: String(data.skip) })
    else if (type === 'test:pass') yield line({ name: data.name, outcome: 'passed' })
    else {
      const error = data.details.error.cause ?? data.details.error
      yield line({ name: data.name, outcome: 'failed', error: error instanceof Error ? inspect(error) : String(error) })
    }
  }
  yield line({ isWhole: true })
}

function line(event) {
  return `${JSON.stringify(event)}\n`
}
