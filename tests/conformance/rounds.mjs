// Tools that answer a first call with questions, and complete once a retried call carries the answers (SEP-2322).
import { randomBytes, randomUUID } from 'node:crypto';

import { acceptedContent, CLIENT_CAPABILITIES_META_KEY, createRequestStateCodec, inputRequired } from '@modelcontextprotocol/server';
import * as z from 'zod/v4';

import { form, text } from './content.mjs';

/** Seals what a client must bring back unchanged. */
export const states = createRequestStateCodec({ key: randomBytes(32) });

const mint = state => states.mint({ ...state, nonce: randomUUID() });
const askName = () => inputRequired.elicit(form('What is your name?', 'name'));
const askModel = (question, maxTokens) => inputRequired.createMessage({
    messages: [{ role: 'user', content: { type: 'text', text: question } }],
    maxTokens
});
const done = value => ({ content: [text(value)] });

export function rounds(server) {
    /** Registers a tool that is given the answers so far and the state it sent last. */
    const tool = (name, description, run) =>
        server.registerTool(name, { description, inputSchema: z.object({}) }, async (_, { mcpReq }) => run({
            answers: mcpReq.inputResponses,
            accepted: (key, field) => acceptedContent(mcpReq.inputResponses, key)?.[field],
            state: mcpReq.requestState(),
            declared: mcpReq.envelope?.[CLIENT_CAPABILITIES_META_KEY]
        }));
    const called = what => `test_input_required_result_${what}`;

    tool(called('elicitation'), 'Asks the user for a name', async ({ accepted }) => {
        const name = accepted('user_name', 'name');
        return typeof name === 'string' ? done(`Hello, ${name}!`) : inputRequired({ inputRequests: { user_name: askName() } });
    });

    tool(called('sampling'), 'Asks the model a question', async ({ answers }) => {
        const answer = answers?.capital_question;
        if (answer !== undefined) return done(`Sampling response: ${answer.content?.text ?? JSON.stringify(answer)}`);
        return inputRequired({ inputRequests: { capital_question: askModel('What is the capital of France?', 100) } });
    });

    tool(called('list_roots'), 'Asks for the roots of the client', async ({ answers }) => {
        const roots = answers?.client_roots?.roots;
        if (Array.isArray(roots)) return done(`${roots.length} root(s): ${roots.map(({ uri }) => uri).join(', ')}`);
        return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } });
    });

    for (const [what, outcome] of [
        ['request_state', 'state-ok: the state came back unchanged'],
        ['tampered_state', 'integrity-ok: the state came back unchanged']
    ]) {
        tool(called(what), 'Asks for a confirmation and for its own state', async ({ accepted, state }) => {
            if (accepted('confirm', 'ok') !== undefined && state !== undefined) return done(outcome);
            return inputRequired({
                inputRequests: { confirm: inputRequired.elicit(form('Please confirm', 'ok', 'boolean')) },
                requestState: await mint({ tool: what })
            });
        });
    }

    tool(called('multiple_inputs'), 'Asks three questions at once', async ({ answers, accepted }) => {
        const name = accepted('user_name', 'name');
        const greeting = answers?.greeting?.content?.text;
        const roots = answers?.client_roots?.roots;
        if (typeof name === 'string' && typeof greeting === 'string' && Array.isArray(roots)) {
            return done(`${greeting} ${name}, ${roots.length} root(s)`);
        }
        return inputRequired({
            inputRequests: { user_name: askName(), greeting: askModel('Generate a greeting', 50), client_roots: inputRequired.listRoots() },
            requestState: await mint({ tool: 'multiple_inputs' })
        });
    });

    tool(called('multi_round'), 'Asks twice, and remembers the first answer in its state', async ({ accepted, state }) => {
        if (state?.round === 2) return done(`${state.name} likes ${accepted('step2', 'color')}`);
        if (state?.round === 1) {
            return inputRequired({
                inputRequests: { step2: inputRequired.elicit(form('Step 2: What is your favorite color?', 'color')) },
                requestState: await mint({ round: 2, name: accepted('step1', 'name') ?? 'somebody' })
            });
        }
        return inputRequired({
            inputRequests: { step1: inputRequired.elicit(form('Step 1: What is your name?', 'name')) },
            requestState: await mint({ round: 1 })
        });
    });

    tool(called('capabilities'), 'Asks only what the client says it can answer', async ({ answers, declared }) => {
        if (answers !== undefined) return done('Answered');
        const inputRequests = {
            ...(declared?.elicitation && { user_name: askName() }),
            ...(declared?.sampling && { greeting: askModel('Generate a short greeting', 50) }),
            ...(declared?.roots && { client_roots: inputRequired.listRoots() })
        };
        return Object.keys(inputRequests).length > 0 ? inputRequired({ inputRequests }) : done('The client can answer nothing');
    });

    tool('test_missing_capability', 'Cannot do without sampling', async ({ answers }) => {
        if (answers?.llm_answer !== undefined) return done('Answered');
        return inputRequired({ inputRequests: { llm_answer: askModel('Reply with the single word: pong', 16) } });
    });
}
