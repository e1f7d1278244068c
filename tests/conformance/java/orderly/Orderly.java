import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.impl.consumer.ProcessQueue;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Two orderly push consumers of one group, with all defaults of the client, that share the queues of a topic until SIGTERM and look whether both
 * are ever inside one queue, or a queue ever goes back. After SIGTERM they go on until the broker tells again who is in the group and every lock
 * was renewed after that: what comes of a change of the master has come by then.
 * Usage: Orderly NAME-SERVER TOPIC GROUP
 * Says on standard error how many messages were consumed since both shared the queues, and at the end on standard output what was seen.
 */
public final class Orderly {
    private static final long PROGRESS_MS = 200;
    private static final long WORK_MS = 1;
    private static final long PATIENCE_MS = 120_000;

    private final String topic;
    private final String group;
    private final List<DefaultMQPushConsumer> consumers = new ArrayList<>();
    private final Map<String, AtomicInteger> inside = new ConcurrentHashMap<>();
    private final Map<String, Long> lasts = new HashMap<>();
    private final Set<MessageQueue> all = new HashSet<>();
    private final AtomicLong consumed = new AtomicLong();
    private final AtomicLong overlaps = new AtomicLong();
    private final AtomicLong backwards = new AtomicLong();
    /** Before both share all queues, these still move, and the next owner begins with the message that the last one had in hand. */
    private boolean counts;

    private Orderly(String topic, String group) {
        this.topic = topic;
        this.group = group;
    }

    public static void main(String[] args) throws Exception {
        Orderly orderly = new Orderly(args[1], args[2]);
        Runtime.getRuntime().addShutdownHook(new Thread(orderly::end));
        try {
            for (String name : new String[] {"a", "b"}) {
                orderly.start(args[0], name);
            }
            orderly.all.addAll(orderly.consumers.get(0).fetchSubscribeMessageQueues(args[1]));
            await("both share the queues", orderly::isShared);
        } catch (Exception e) {
            e.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
        orderly.begin();
        while (true) {
            System.err.println(orderly.consumed.get() + " acknowledged");
            Thread.sleep(PROGRESS_MS);
        }
    }

    private void begin() {
        synchronized (lasts) {
            lasts.clear();
            counts = true;
        }
    }

    private void start(String nameServer, String name) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(nameServer);
        consumer.setInstanceName(name);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            for (MessageExt message : messages) {
                consume(message);
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        consumers.add(consumer);
    }

    private void consume(MessageExt message) {
        String queue = message.getBrokerName() + "/" + message.getQueueId();
        AtomicInteger here = inside.computeIfAbsent(queue, key -> new AtomicInteger());
        boolean isAlone = here.incrementAndGet() == 1;
        Long last;
        boolean isCounted;
        synchronized (lasts) {
            last = lasts.put(queue, message.getQueueOffset());
            isCounted = counts;
        }
        if (isCounted) {
            consumed.incrementAndGet();
            if (!isAlone) {
                overlaps.incrementAndGet();
                System.err.println("two are inside " + queue + " at " + message.getQueueOffset());
            }
            if (last != null && message.getQueueOffset() <= last) {
                backwards.incrementAndGet();
                System.err.println(queue + " goes back from " + last + " to " + message.getQueueOffset());
            }
        }
        work();
        here.decrementAndGet();
    }

    /** What takes no time is hardly ever met. */
    private static void work() {
        try {
            Thread.sleep(WORK_MS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private Map<MessageQueue, ProcessQueue> owned(DefaultMQPushConsumer consumer) {
        Map<MessageQueue, ProcessQueue> queues = new HashMap<>(consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable());
        queues.keySet().removeIf(queue -> !queue.getTopic().equals(topic));
        return queues;
    }

    /** Whether each queue has one owner, and no consumer more than one queue more than another: none has to change hands. */
    private boolean isShared() {
        Set<MessageQueue> owned = new HashSet<>();
        int most = 0;
        int least = all.size();
        int sum = 0;
        for (DefaultMQPushConsumer consumer : consumers) {
            Set<MessageQueue> queues = owned(consumer).keySet();
            most = Math.max(most, queues.size());
            least = Math.min(least, queues.size());
            sum += queues.size();
            owned.addAll(queues);
        }
        return most - least <= 1 && sum == owned.size() && owned.equals(all);
    }

    /** Whether the broker says that both are there. */
    private boolean isListed() {
        List<String> ids = consumers.get(0).getDefaultMQPushConsumerImpl().getmQClientFactory().findConsumerIdList(topic, group);
        return ids != null && ids.size() == consumers.size();
    }

    private boolean isLockedSince(long time) {
        return consumers.stream().flatMap(consumer -> owned(consumer).values().stream()).allMatch(queue -> queue.getLastLockTimestamp() > time);
    }

    private static void await(String what, BooleanSupplier isTrue) throws Exception {
        long end = System.currentTimeMillis() + PATIENCE_MS;
        while (!isTrue.getAsBoolean()) {
            if (System.currentTimeMillis() > end) {
                throw new Exception("waited in vain: " + what);
            }
            Thread.sleep(PROGRESS_MS);
        }
    }

    /** A JVM that a signal ends would not end with status 0. */
    private void end() {
        int status = 0;
        try {
            await("both are listed", this::isListed);
            long listed = System.currentTimeMillis();
            await("locks renewed", () -> isLockedSince(listed));
            if (!isShared()) {
                throw new Exception("a queue has two owners or none, or the queues are not shared evenly");
            }
        } catch (Exception e) {
            e.printStackTrace();
            status = 1;
        }
        System.out.println("{\"consumed\":" + consumed.get() + ",\"overlaps\":" + overlaps.get() + ",\"backwards\":" + backwards.get() + "}");
        System.out.flush();
        Runtime.getRuntime().halt(status);
    }
}
