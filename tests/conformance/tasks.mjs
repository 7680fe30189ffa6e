// The tasks extension (SEP-2663), which the SDK does not have: answers what is about tasks, and leaves the rest to the SDK.
import { randomUUID } from 'node:crypto';

import { inputRequired } from '@modelcontextprotocol/server';
import * as z from 'zod/v4';

import { form, text } from './content.mjs';

export const EXTENSION = 'io.modelcontextprotocol/tasks';
const CAPABILITIES = 'io.modelcontextprotocol/clientCapabilities';
const [INVALID_PARAMS, HEADER_MISMATCH, MISSING_CAPABILITY] = [-32602, -32020, -32021];
const METHODS = ['tasks/get', 'tasks/update', 'tasks/cancel'];
const OVER = ['completed', 'failed', 'cancelled'];

const kept = new Map();
const settle = (task, status, more = {}) => {
    if (!OVER.includes(task.status)) Object.assign(task, { status, lastUpdatedAt: new Date().toISOString() }, more);
};
const complete = (task, value, more = {}) => settle(task, 'completed', { result: { content: [text(value)], ...more } });
const ask = (task, questions) => settle(task, 'input_required', {
    inputRequests: Object.fromEntries(questions.map(question => [randomUUID(), { method: 'elicitation/create', params: question }]))
});

/** Tools that become tasks, with what they do to theirs. */
const WORK = {
    slow_compute: (task, { seconds, label }) => setTimeout(() => complete(task, `${label} computed`), seconds * 1000).unref(),
    failing_job: task => setTimeout(() => complete(task, 'The job has failed', { isError: true }), 1000).unref(),
    protocol_error_job: task => settle(task, 'failed', { error: { code: -32603, message: 'The server broke' } }),
    confirm_delete: task => ask(task, [form('Delete it?', 'confirm', 'boolean')]),
    multi_input: task => ask(task, [form('Who?', 'name'), form('Sure?', 'confirm', 'boolean')]),
    test_tool_with_task: (task, _, answers) => complete(task, `Hello, ${answers.user_name.content.name}!`)
};
/** These cannot do without a task; the others answer at once to clients that know none. */
const ONLY_AS_TASKS = ['failing_job', 'protocol_error_job', 'confirm_delete', 'multi_input'];

/** Registers the tools, so that they are listed, with what they answer when no task is made. */
export function taskTools(server) {
    const tool = (name, schema, run) => server.registerTool(name, { description: name, inputSchema: z.object(schema) }, run);
    const says = value => async () => ({ content: [text(value)] });
    tool('greet', { name: z.string() }, async ({ name }) => ({ content: [text(`Hello, ${name}!`)] }));
    tool('slow_compute', { seconds: z.number(), label: z.string().optional() }, says('computed'));
    for (const name of ONLY_AS_TASKS) tool(name, { filename: z.string().optional() }, says('only as a task'));
    tool('test_tool_with_task', {}, async () =>
        inputRequired({ inputRequests: { user_name: inputRequired.elicit(form('What is your name?', 'name')) } }));
}

/** Answers a modern request that is about tasks; says whether it was one. */
export function answerTask({ body, headers }, response) {
    const { id, method, params } = body ?? {};
    const named = METHODS.includes(method) ? params?.taskId : params?.name;
    const work = method === 'tools/call' ? WORK[named] : undefined;
    if (!METHODS.includes(method) && work === undefined) return false;

    const refuse = (status, code, message, data) =>
        void response.status(status).json({ jsonrpc: '2.0', id, error: { code, message, ...(data && { data }) } });
    const answer = result => void response.json({ jsonrpc: '2.0', id, result });

    const knowsTasks = params._meta?.[CAPABILITIES]?.extensions?.[EXTENSION] !== undefined;
    const asksFirst = named === 'test_tool_with_task' && params.inputResponses?.user_name === undefined;
    if (work !== undefined && (asksFirst || (!knowsTasks && !ONLY_AS_TASKS.includes(named)))) return false;
    if (headers['mcp-method'] !== method || headers['mcp-name'] !== named) {
        refuse(400, HEADER_MISMATCH, 'Headers and body disagree');
    } else if (!knowsTasks) {
        refuse(400, MISSING_CAPABILITY, 'Needs tasks', { requiredCapabilities: { extensions: { [EXTENSION]: {} } } });
    } else if (work !== undefined) {
        answer({ resultType: 'task', ...about(create(work, params)) });
    } else if (!kept.has(params.taskId)) {
        refuse(200, INVALID_PARAMS, 'Unknown task');
    } else {
        answer({ resultType: 'complete', ...ACTIONS[method](kept.get(params.taskId), params) });
    }
    return true;
}

function create(work, { arguments: given, inputResponses }) {
    const now = new Date().toISOString();
    const task = { taskId: randomUUID(), status: 'working', createdAt: now, lastUpdatedAt: now, ttlMs: 60_000, pollIntervalMs: 100 };
    kept.set(task.taskId, task);
    // What the work comes to is seen on the next look, never in the answer that makes the task.
    setImmediate(() => work(task, given ?? {}, inputResponses));
    return task;
}

const about = ({ taskId, status, createdAt, lastUpdatedAt, ttlMs, pollIntervalMs }) =>
    ({ taskId, status, createdAt, lastUpdatedAt, ttlMs, pollIntervalMs });

const ACTIONS = {
    'tasks/get': task => ({ ...task }),
    'tasks/cancel': task => {
        settle(task, 'cancelled', { inputRequests: undefined });
        return {};
    },
    'tasks/update': (task, { inputResponses }) => {
        const open = Object.entries(task.inputRequests ?? {}).filter(([key]) => inputResponses?.[key] === undefined);
        if (task.status === 'input_required') {
            task.inputRequests = Object.fromEntries(open);
            if (open.length === 0) settle(task, 'completed', { inputRequests: undefined, result: { content: [text('Done')] } });
        }
        return {};
    }
};
