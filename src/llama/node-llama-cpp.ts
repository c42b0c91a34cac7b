// The types of node-llama-cpp, an optional peer of ES modules only: `any` where it is not installed. The one place that names it, since
// each such line needs its own @ts-ignore in the users' projects.
// biome-ignore lint/suspicious/noTsIgnore: only where it is not installed, or where CommonJS may not name it, there is an error.
/** @ts-ignore */
import type * as nodeLlamaCpp from 'node-llama-cpp'

export type NodeLlamaCpp = typeof nodeLlamaCpp
export type Llama = nodeLlamaCpp.Llama
export type LlamaContext = nodeLlamaCpp.LlamaContext
export type LlamaContextOptions = nodeLlamaCpp.LlamaContextOptions
export type LlamaLogLevel = nodeLlamaCpp.LlamaLogLevel
export type LlamaModel = nodeLlamaCpp.LlamaModel
export type LlamaModelOptions = nodeLlamaCpp.LlamaModelOptions
export type LlamaOptions = nodeLlamaCpp.LlamaOptions
