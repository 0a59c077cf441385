// Judges recorded callbacks by the vendors' npm libraries: judge.mjs RECORDING, beside a node_modules made from package.json.
//
// A callback must be verified with each secret that signs it, and refused with any other secret and once its body is changed.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import '@shopify/shopify-api/adapters/node';
import { shopifyApi } from '@shopify/shopify-api';
import { verify as github } from '@octokit/webhooks-methods';
import { createLocalJWKSet } from 'jose';
import { Webhook as StandardWebhook } from 'standardwebhooks';
import Stripe from 'stripe';
import { Webhook as SvixWebhook } from 'svix';

const require = createRequire(import.meta.url);
const { Signature: HubSpot } = require('@hubspot/api-client');
const { isValidSlackRequest } = require('@slack/bolt/dist/receivers/verify-request');
const { WebhooksHelper } = require('square');
const twilio = require('twilio');

const STRANGER = 'whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=';

const judges = {
  standard_webhooks: (call, body, secret) => {
    new StandardWebhook(secret).verify(body, call.headers);
    return true;
  },
  svix: (call, body, secret) => {
    const headers = Object.fromEntries(Object.entries(call.headers).filter(([name]) => name.startsWith('svix-')));
    new SvixWebhook(secret).verify(body, headers);
    return true;
  },
  stripe: (call, body, secret) => {
    new Stripe('sk_test_none').webhooks.constructEvent(body, call.headers['stripe-signature'], secret);
    return true;
  },
  github: async (call, body, secret) => {
    assert.equal(call.headers['x-github-event'], 'orders.create');
    assert.match(call.headers['x-github-delivery'], /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/);
    const sha1 = `sha1=${createHmac('sha1', secret).update(body).digest('hex')}`;
    return (await github(secret, body, call.headers['x-hub-signature-256'])) && call.headers['x-hub-signature'] === sha1;
  },
  shopify: async (call, body, secret) => {
    const shopify = shopifyApi({
      apiKey: 'none',
      apiSecretKey: secret,
      apiVersion: '2026-07',
      hostName: 'example.com',
      isEmbeddedApp: false,
      logger: { level: 0, log: async () => {} },
    });
    const rawRequest = { method: call.method, url: '/', headers: call.headers };
    const validated = await shopify.webhooks.validate({ rawBody: body, rawRequest, rawResponse: {} });
    if (validated.valid) {
      assert.equal(validated.topic, 'ORDERS_CREATE', 'as the library writes orders/create');
      assert.equal(validated.domain, 'acme.myshopify.com');
    }
    return validated.valid;
  },
  slack: (call, body, secret) =>
    isValidSlackRequest({
      signingSecret: secret,
      body,
      headers: {
        'x-slack-signature': call.headers['x-slack-signature'],
        'x-slack-request-timestamp': Number(call.headers['x-slack-request-timestamp']),
      },
    }),
  twilio: (call, body, secret) =>
    twilio.validateRequestWithBody(secret, call.headers['x-twilio-signature'], call.url, body),
  square: (call, body, secret) =>
    WebhooksHelper.verifySignature({
      requestBody: body,
      signatureHeader: call.headers['x-square-hmacsha256-signature'],
      signatureKey: secret,
      notificationUrl: call.url,
    }),
  hubspot: (call, body, secret) =>
    HubSpot.isValid({
      signature: call.headers['x-hubspot-signature-v3'],
      clientSecret: secret,
      requestBody: body,
      signatureVersion: 'v3',
      url: call.url,
      method: call.method,
      timestamp: Number(call.headers['x-hubspot-request-timestamp']),
    }),
  // These have no library of their own; the documentation of each says this.
  trello: (call, body, secret) =>
    createHmac('sha1', secret).update(body + call.url).digest('base64') === call.headers['x-trello-webhook'],
  asana: (call, body, secret) =>
    createHmac('sha256', secret).update(body).digest('hex') === call.headers['x-hook-signature'],
};
// Headers that hold a signature by each secret in force.
const lists = new Set(['standard_webhooks', 'svix', 'stripe']);

// Standard Webhooks signs what a detached JWS does not, so jose only reads the key set and WebCrypto verifies.
async function ed25519(call, body, jwk) {
  const key = await createLocalJWKSet({ keys: [jwk] })({ alg: 'EdDSA', kid: jwk.kid }, {});
  const content = `${call.headers['webhook-id']}.${call.headers['webhook-timestamp']}.${body}`;
  for (const signature of call.headers['webhook-signature'].split(' ')) {
    const [version, value] = signature.split(',');
    const bytes = Buffer.from(value, 'base64');
    if (version === 'v1a' && (await crypto.subtle.verify('Ed25519', key, bytes, Buffer.from(content)))) return true;
  }
  return false;
}

async function verified(judge, call, body, key) {
  try {
    return await judge(call, body, key);
  } catch {
    return false; // each library has its own way to say no
  }
}

const judged = new Map();
for (const line of readFileSync(process.argv[2], 'utf8').trim().split('\n')) {
  const call = JSON.parse(line);
  const body = Buffer.from(call.body, 'base64').toString('utf8');
  const { profile, secrets } = call;
  const isEd25519 = profile === 'standard_webhooks_ed25519';
  const judge = isEd25519 ? ed25519 : judges[profile];
  const good = isEd25519 ? call.keys.keys : lists.has(profile) ? secrets : secrets.slice(0, 1);
  const bad = isEd25519 ? [] : [...secrets.filter((secret) => !good.includes(secret)), STRANGER];
  const changed = body.replace('1.10', '9.99');
  assert.notEqual(changed, body);
  assert.equal(good.length, isEd25519 || lists.has(profile) ? secrets.length : 1);
  for (const key of good) {
    assert(await verified(judge, call, body, key), `${profile}: refused`);
    assert(!(await verified(judge, call, changed, key)), `${profile}: a changed body was verified`);
  }
  for (const key of bad) {
    assert(!(await verified(judge, call, body, key)), `${profile}: verified with a wrong secret`);
  }
  judged.set(profile, (judged.get(profile) ?? 0) + 1);
}
for (const profile of [...Object.keys(judges), 'standard_webhooks_ed25519']) {
  assert((judged.get(profile) ?? 0) >= 3, `${profile} was not judged`);
}
console.log('npm:', [...judged].map(([profile, count]) => `${profile} ${count}`).sort().join(', '));
