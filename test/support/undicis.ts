// The dispatchers that users bring: those of undici 6, 7 and 8, and the one inside Node.
import type { Dispatcher as Dispatcher7 } from 'undici'
import type { Dispatcher as Dispatcher6 } from 'undici-6'
import type { Dispatcher as Dispatcher8 } from 'undici-8'
import type { Dispatcher as NodesDispatcher } from 'undici-types'
import type { RequestDispatcher } from '#download/http/dispatcher'
import { nodesDispatchers } from './nodes-dispatcher.ts'
import { withUndiciInside } from './runtimes.ts'

type Accepted<T extends RequestDispatcher> = T
/** This compiles only if the option takes each of them without a cast. */
export type UsersDispatcher =
  | Accepted<Dispatcher6>
  | Accepted<Dispatcher7>
  | Accepted<Dispatcher8>
  | Accepted<NodesDispatcher>

type Module = Pick<
  typeof import('undici'),
  'Agent' | 'Pool' | 'Client' | 'ProxyAgent' | 'EnvHttpProxyAgent' | 'MockAgent' | 'RetryAgent'
>

export interface Undici {
  readonly name: string
  /** Why it can't be had here. */
  readonly skip: string | false
  /** Whether it calls its handlers by the names of undici 6. */
  readonly isOld: boolean
  agent(): Promise<RequestDispatcher & Composable>
  /** All that it exports. Of the undici inside Node nothing but its agent can be had. */
  readonly load?: () => Promise<Module>
}

interface Composable {
  compose(interceptor: (dispatch: Dispatch) => Dispatch): RequestDispatcher
  close(): Promise<void>
}
type Dispatch = (options: never, handler: never) => boolean

/** Wine's sockets know no TCP keep-alive. */
export const connect = { keepAlive: false }

function packaged(name: string, major: number, load: () => Promise<unknown>, skip: string | false = false): Undici {
  const module = load as () => Promise<Module>
  const agent = async () => new (await module()).Agent({ connect }) as unknown as RequestDispatcher & Composable
  return { name, skip, isOld: major < 7, agent, load: module }
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const canRun8 = major > 22 || (major === 22 && minor >= 19)
const another = process.env.OS_MUTEX_TEST_UNDICI

export const undicis: readonly Undici[] = [
  packaged('undici 6', 6, () => import('undici-6')),
  packaged('undici 7', 7, () => import('undici/index.js')),
  packaged(
    'undici 8',
    8,
    () => import('undici-8'),
    !canRun8 && `undici 8 needs Node 22.19, this is ${process.version}`,
  ),
  {
    name: 'the undici inside Node',
    skip: withUndiciInside.skip ?? false,
    isOld: process.versions.undici?.startsWith('6.') === true,
    agent: nodesOwn,
  },
  // Any other version, by hand: OS_MUTEX_TEST_UNDICI=/folder/of/undici
  ...(another === undefined
    ? []
    : [
        packaged(another, await majorOf(another), () => import(`${another}/index.js`).then((module) => module.default)),
      ]),
]

async function majorOf(folder: string): Promise<number> {
  const manifest = await import(`${folder}/package.json`, { with: { type: 'json' } })
  return Number.parseInt(manifest.default.version, 10)
}

/** As `fetch` uses it. */
async function nodesOwn(): Promise<RequestDispatcher & Composable> {
  const { own, inner } = nodesDispatchers as Partial<Record<string, RequestDispatcher & Composable>>
  if (own === undefined) throw new Error('fetch() has left no dispatcher')
  if (process.platform !== 'win32') return own
  const Agent = (inner ?? own).constructor as new (options: { connect: object }) => RequestDispatcher & Composable
  return new Agent({ connect })
}
