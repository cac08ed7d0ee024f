// The same plain function in JavaScript.
'use strict';

class NotFound extends Error {
  constructor(message) {
    super(message);
    this.name = 'NotFound';
  }
}

exports.handler = async (event, context) => {
  const { custom } = context.clientContext;
  switch (custom['grpc-method'].split('/')[2]) {
    case 'Echo':
      return event;
    case 'Get':
      if (event.id !== '7') throw new NotFound(`no order ${event.id}`);
      return { id: '7', totalCents: 1250, state: 'SHIPPED', note: custom['x-tenant'], notInTheProto: null };
    case 'Fail':
      throw Object.assign(new Error(event.message), { name: event.type });
    default:
      return undefined;
  }
};
