// The tools that the scenarios list and call.
import { setTimeout as sleep } from 'node:timers/promises';

import { fromJsonSchema } from '@modelcontextprotocol/server';
import * as z from 'zod/v4';

import { embedded, form, image, SILENCE, text } from './content.mjs';

const JSON_SCHEMA_2020_12 = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    $defs: {
        address: {
            $anchor: 'addressDef',
            type: 'object',
            properties: { street: { type: 'string' }, city: { type: 'string' } }
        }
    },
    properties: {
        name: { type: 'string' },
        address: { $ref: '#/$defs/address' },
        contactMethod: { type: 'string', enum: ['phone', 'email'] },
        phone: { type: 'string' },
        email: { type: 'string' }
    },
    allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
    if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
    then: { required: ['phone'] },
    else: { required: ['email'] },
    additionalProperties: false
};

const MIRRORED_ARGUMENT = {
    type: 'object',
    properties: {
        region: { type: 'string', description: 'Mirrored into Mcp-Param-Region', 'x-mcp-header': 'Region' },
        level: { type: 'integer', description: 'Not mirrored' }
    }
};

const EVERY_DEFAULT = {
    name: { type: 'string', default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', default: true }
};

const options = ['option1', 'option2', 'option3'];
const titled = ['value1', 'value2', 'value3'].map(value => ({ const: value, title: `Title of ${value}` }));
const EVERY_ENUM = {
    untitledSingle: { type: 'string', enum: options },
    titledSingle: { type: 'string', oneOf: titled },
    legacyEnum: { type: 'string', enum: ['opt1', 'opt2', 'opt3'], enumNames: ['Option One', 'Option Two', 'Option Three'] },
    untitledMulti: { type: 'array', minItems: 1, maxItems: 3, items: { type: 'string', enum: options } },
    titledMulti: { type: 'array', minItems: 1, maxItems: 3, items: { anyOf: titled } }
};

export function tools(server, { sessions, changed }) {
    const raw = (name, description, inputSchema, run) => server.registerTool(name, { description, inputSchema }, async (args, context) => {
        const content = await run(args, context);
        return { content: Array.isArray(content) ? content : [content] };
    });
    const tool = (name, description, run, schema = {}) => raw(name, description, z.object(schema), run);

    tool('test_simple_text', 'Answers with text', async () => text('This is a simple text response for testing.'));
    tool('test_image_content', 'Answers with an image', async () => image());
    tool('test_audio_content', 'Answers with audio', async () => ({ type: 'audio', data: SILENCE, mimeType: 'audio/wav' }));
    tool('test_embedded_resource', 'Answers with a resource', async () =>
        embedded('test://embedded-resource', 'text/plain', 'This is an embedded resource content.'));
    tool('test_multiple_content_types', 'Answers with text, an image and a resource', async () => [
        text('Multiple content types test:'),
        image(),
        embedded('test://mixed-content-resource', 'application/json', JSON.stringify({ test: 'data', value: 123 }))
    ]);
    tool('test_error_handling', 'Fails', async () => {
        throw new Error('This tool intentionally returns an error for testing');
    });
    raw('json_schema_2020_12_tool', 'Has a schema with the newer words', fromJsonSchema(JSON_SCHEMA_2020_12), async args =>
        text(JSON.stringify(args)));
    raw('test_x_mcp_header', 'Has an argument that is mirrored in a header', fromJsonSchema(MIRRORED_ARGUMENT), async ({ region }) =>
        text(`region=${region ?? 'none'}`));

    notifying(tool);
    asking(tool);
    streaming(tool, sessions, changed);
}

/** Tools that say something before they answer. */
function notifying(tool) {
    tool('test_tool_with_logging', 'Logs three times', async (_, { mcpReq }) => {
        for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
            await mcpReq.notify({ method: 'notifications/message', params: { level: 'info', data } });
            await sleep(50);
        }
        return text('Tool with logging executed successfully');
    });
    tool('test_logging_tool', 'Logs when the request asked for it', async (_, { mcpReq }) => {
        await mcpReq.log('info', 'The request named a level');
        return text('logged');
    });
    tool('test_tool_with_progress', 'Reports progress', async (_, { mcpReq }) => {
        const progressToken = mcpReq._meta?.progressToken;
        for (const progress of progressToken === undefined ? [] : [0, 50, 100]) {
            const params = { progressToken, progress, total: 100, message: `Completed step ${progress} of 100` };
            await mcpReq.notify({ method: 'notifications/progress', params });
            await sleep(50);
        }
        return text(progressToken ?? 'no progress token');
    });
}

/** Tools that ask the client on the way, as servers did before 2026-07-28. */
function asking(tool) {
    tool('test_sampling', 'Asks the model', async ({ prompt }, { mcpReq }) => {
        const messages = [{ role: 'user', content: { type: 'text', text: prompt } }];
        const answer = await mcpReq.send({ method: 'sampling/createMessage', params: { messages, maxTokens: 100 } });
        return text(`LLM response: ${answer.content?.text}`);
    }, { prompt: z.string() });

    const elicit = async (mcpReq, params) => {
        const { action, content } = await mcpReq.send({ method: 'elicitation/create', params });
        return `action=${action}, content=${JSON.stringify(content ?? {})}`;
    };
    tool('test_elicitation', 'Asks the user', async ({ message }, { mcpReq }) =>
        text(`User response: ${await elicit(mcpReq, form(message, 'response'))}`), { message: z.string() });
    for (const [name, properties] of [['sep1034_defaults', EVERY_DEFAULT], ['sep1330_enums', EVERY_ENUM]]) {
        tool(`test_elicitation_${name}`, 'Asks the user with a form of every kind of field', async (_, { mcpReq }) => {
            const requestedSchema = { type: 'object', properties, required: [] };
            return text(`Elicitation completed: ${await elicit(mcpReq, { message: 'Please look through the form', requestedSchema })}`);
        });
    }
}

/** Tools that do something to a stream. */
function streaming(tool, sessions, changed) {
    tool('test_reconnection', 'Closes its own stream and answers on the next', async (_, { sessionId, mcpReq }) => {
        sessions.get(sessionId)?.closeSSEStream(mcpReq.id);
        await sleep(100);
        return text('The client has come back for this.');
    });
    tool('test_streaming_elicitation', 'Answers without asking', async () => text('Nothing but the result'));
    tool('test_trigger_tool_change', 'Says that the list of tools has changed', async () => {
        changed().toolsChanged();
        return text('said');
    });
    tool('test_trigger_prompt_change', 'Says that the list of prompts has changed', async () => {
        changed().promptsChanged();
        return text('said');
    });
}
