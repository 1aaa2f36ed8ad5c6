"""RabbitMQ: kombu's pyamqp connections, and a hot loop of our own over explicit channels."""
