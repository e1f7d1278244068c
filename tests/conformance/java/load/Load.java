import java.io.BufferedWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.zip.CRC32;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientIDSetter;

/**
 * A producer as the official client makes it, with all its defaults (asks for the route every 30 s, waits 3 s for an answer, tries twice
 * more), that sends until SIGTERM and writes down what it saw in the form of rocket-bench's histories: `sent` before a message leaves,
 * `acked` after SEND_OK, `unknown` after anything else, since one of its tries may have been stored.
 * Usage: Load NAME-SERVER TOPIC RUN HISTORY SENDERS
 * Says on standard error how many are acknowledged, and at the end on standard output what came of all.
 */
public final class Load {
    private static final int BODY_BYTES = 200;
    private static final long PROGRESS_MS = 200;
    /** After a send that failed, so that an outage does not fill the history. */
    private static final long PAUSE_MS = 20;

    private final DefaultMQProducer producer;
    private final String topic;
    private final String run;
    private final BufferedWriter history;
    private final AtomicLong acked = new AtomicLong();
    private final AtomicLong unknown = new AtomicLong();
    private volatile boolean stop;

    private Load(DefaultMQProducer producer, String topic, String run, BufferedWriter history) {
        this.producer = producer;
        this.topic = topic;
        this.run = run;
        this.history = history;
    }

    public static void main(String[] args) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(args[2] + "_producer");
        producer.setNamesrvAddr(args[0]);
        producer.start();
        BufferedWriter history = Files.newBufferedWriter(Paths.get(args[3]), StandardCharsets.UTF_8);
        Load load = new Load(producer, args[1], args[2], history);
        List<Thread> senders = new ArrayList<>();
        for (int i = 0; i < Integer.parseInt(args[4]); i++) {
            int number = i;
            Thread sender = new Thread(() -> load.send(number), "sender-" + i);
            sender.start();
            senders.add(sender);
        }
        Runtime.getRuntime().addShutdownHook(new Thread(() -> load.end(senders)));
        while (true) {
            System.err.println(load.acked.get() + " acknowledged");
            Thread.sleep(PROGRESS_MS);
        }
    }

    /** One sender: a message leaves when the one before it was answered or given up. */
    private void send(int number) {
        for (long sequence = 0; !stop; sequence++) {
            Message message = new Message(topic, body(number, sequence));
            MessageClientIDSetter.setUniqID(message);
            String key = MessageClientIDSetter.getUniqID(message);
            CRC32 crc = new CRC32();
            crc.update(message.getBody());
            // The client chooses the queue, so it is known from the answer only.
            note("\"event\":\"sent\",\"key\":\"" + key + "\",\"producer\":" + number + ",\"sequence\":" + sequence + ",\"queue\":0,\"crc\":" + crc.getValue());
            try {
                SendResult result = producer.send(message);
                if (result.getSendStatus() == SendStatus.SEND_OK) {
                    acked(key, result);
                    continue;
                }
                doubt(key, result.getSendStatus().name());
            } catch (Exception e) {
                doubt(key, e.toString());
            }
            pause();
        }
    }

    private void acked(String key, SendResult result) {
        Instant now = Instant.now();
        long micros = now.getEpochSecond() * 1_000_000 + now.getNano() / 1000;
        String id = result.getOffsetMsgId(); // address and physical offset, in hexadecimal digits
        long physical = Long.parseUnsignedLong(id.substring(id.length() - 16), 16);
        note("\"event\":\"acked\",\"key\":\"" + key + "\",\"queue\":" + result.getMessageQueue().getQueueId() + ",\"offset\":" + result.getQueueOffset()
            + ",\"physical\":" + physical + ",\"at_us\":" + micros);
        acked.incrementAndGet();
    }

    private void doubt(String key, String why) {
        note("\"event\":\"unknown\",\"key\":\"" + key + "\",\"why\":\"" + why.replaceAll("[^ -~]|[\"\\\\]", "?") + "\"");
        unknown.incrementAndGet();
    }

    private byte[] body(int number, long sequence) {
        byte[] body = new byte[BODY_BYTES];
        Arrays.fill(body, (byte) ' ');
        byte[] name = (run + "-" + number + "-" + sequence).getBytes(StandardCharsets.UTF_8);
        System.arraycopy(name, 0, body, 0, Math.min(name.length, body.length));
        return body;
    }

    private void note(String fields) {
        synchronized (history) {
            try {
                history.write("{" + fields + "}\n");
            } catch (java.io.IOException e) {
                throw new java.io.UncheckedIOException(e);
            }
        }
    }

    private static void pause() {
        try {
            Thread.sleep(PAUSE_MS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** No further message leaves; answers that are waited for are noted. A JVM that a signal ends would not end with status 0. */
    private void end(List<Thread> senders) {
        stop = true;
        int status = 0;
        try {
            for (Thread sender : senders) {
                sender.join();
            }
            synchronized (history) {
                history.close();
            }
        } catch (Exception e) {
            e.printStackTrace();
            status = 1;
        }
        System.out.println("{\"acked\":" + acked.get() + ",\"unknown\":" + unknown.get() + ",\"refused\":0}");
        System.out.flush();
        Runtime.getRuntime().halt(status);
    }
}
