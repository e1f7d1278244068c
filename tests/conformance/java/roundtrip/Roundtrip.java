import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/**
 * Sends COUNT messages with the official client and receives them with its push consumer; tells its progress each second and
 * ends with status 0 only if every acknowledged message was seen exactly once.
 * Usage: Roundtrip NAME-SERVER TOPIC COUNT
 */
public final class Roundtrip {
    private static final int SENDERS = 8;
    private static final long PATIENCE_MS = 120_000;

    private Roundtrip() {
    }

    public static void main(String[] args) throws Exception {
        String ns = args[0];
        String topic = args[1];
        int count = Integer.parseInt(args[2]);
        long start = System.currentTimeMillis();

        Map<String, AtomicInteger> seen = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(topic + "_roundtrip");
        consumer.setNamesrvAddr(ns);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(m -> seen.computeIfAbsent(new String(m.getBody()), k -> new AtomicInteger()).incrementAndGet());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();

        DefaultMQProducer producer = new DefaultMQProducer(topic + "_producer");
        producer.setNamesrvAddr(ns);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        Map<String, Boolean> acknowledged = new ConcurrentHashMap<>();
        AtomicInteger next = new AtomicInteger();
        AtomicInteger failed = new AtomicInteger();
        ExecutorService senders = Executors.newFixedThreadPool(SENDERS);
        for (int s = 0; s < SENDERS; s++) {
            senders.execute(() -> {
                for (int i = next.getAndIncrement(); i < count; i = next.getAndIncrement()) {
                    String body = "message " + i;
                    try {
                        SendResult result = producer.send(new Message(topic, "demo", "key" + i, body.getBytes()));
                        if (result.getSendStatus() == SendStatus.SEND_OK) {
                            acknowledged.put(body, true);
                        }
                    } catch (Exception e) {
                        if (failed.incrementAndGet() == 1) {
                            e.printStackTrace();
                        }
                    }
                }
            });
        }
        senders.shutdown();
        long end = start + PATIENCE_MS;
        long told = start;
        while ((!senders.awaitTermination(20, TimeUnit.MILLISECONDS) || seen.size() < acknowledged.size()) && System.currentTimeMillis() < end) {
            if (System.currentTimeMillis() - told >= 1000) {
                told = System.currentTimeMillis();
                System.out.printf("sent %d, received %d%n", acknowledged.size(), seen.size());
            }
            Thread.sleep(20); // what is left to receive comes by itself once all is sent
        }
        long missing = acknowledged.keySet().stream().filter(b -> !seen.containsKey(b)).count();
        long twice = seen.values().stream().filter(n -> n.get() > 1).count();
        System.out.printf("sent %d, failed %d, received %d, missing %d, seen twice %d, in %.1f s%n", acknowledged.size(), failed.get(), seen.size(),
            missing, twice, (System.currentTimeMillis() - start) / 1000.0);
        producer.shutdown();
        consumer.shutdown();
        System.exit(acknowledged.size() == count && seen.size() == count && missing == 0 && twice == 0 ? 0 : 1);
    }
}
