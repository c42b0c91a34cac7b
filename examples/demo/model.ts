// The model of the demo: a tiny one from a throttled server of its own, or a real one from anywhere.
import { join } from 'node:path'
import { ModelServer } from '../../test/support/model-server.ts'
import { makeTinyGguf } from '../../test/support/tiny-gguf.ts'

/** One answer of the demo's server: where in the file it began, and how many bytes of it the kernel took. */
export interface ServedRange {
  readonly from: number
  readonly bytes: number
}

export interface DemoModel {
  readonly source: string
  /** What the demo says about where the model is from. */
  readonly label: string
  /** What it must arrive as; only known of the demo's own model. */
  readonly original?: { readonly bytes: number; readonly sha256: string }
  /** What the demo's own server has sent, in order. */
  served?(): ServedRange[]
}

const PATH = '/tiny-random-llama.gguf'

export async function serveTinyModel(folder: string, bytes: number, bytesPerSecond: number): Promise<DemoModel> {
  const original = makeTinyGguf({ path: join(folder, 'original.gguf'), bytes })
  const server = await ModelServer.start({ bytesPerSecond })
  server.serve(PATH, original.path)
  const places = redirectToPlaces(server, original.path)
  return {
    source: server.origin + PATH,
    label: `a random model of ${bytes / 2 ** 20} MiB from ${server.origin}, at ${bytesPerSecond / 2 ** 20} MiB/s`,
    original,
    served: () => places.flatMap((place) => rangeAt(server, place)),
  }
}

/** As hubs do, the server redirects each request, here to a place of its own: so the bytes of each one are counted apart. */
function redirectToPlaces(server: ModelServer, file: string): string[] {
  const places: string[] = []
  const nextPlace = async (): Promise<never> => {
    for (;;) {
      const place = `/${places.length + 1}${PATH}`
      places.push(place)
      server.fault(PATH, { kind: 'redirect', to: server.serve(place, file) })
      await server.requested(PATH, places.length)
    }
  }
  void nextPlace()
  return places
}

function rangeAt(server: ModelServer, place: string): ServedRange[] {
  return server.requests(place).flatMap(({ method, headers }) => {
    if (method !== 'GET') return []
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0)
    return [{ from, bytes: server.bytesServed(place) }]
  })
}
